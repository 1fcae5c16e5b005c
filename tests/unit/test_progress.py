"""The progress bar of the example."""

from __future__ import annotations

import io

import pytest

from examples.stdlib_survey.progress import LINE_INTERVAL_S, Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(clock):
    def make(stream, total=200, done=0, **environment):
        return Progress(
            "counting", total, done, stream=stream, clock=clock, environment=environment
        )

    return make


def test_a_terminal_gets_a_bar_that_is_written_over(make):
    stream = Terminal()
    progress = make(stream)

    progress.update(0)
    progress.update(100)

    first, second = stream.getvalue().split("\r")[1:]
    assert first.startswith("[" + "." * 30 + "] counting 0 of 200 (0 %)")
    assert second.startswith("[" + "#" * 15 + "." * 15 + "] counting 100 of 200 (50 %)")
    assert "\n" not in stream.getvalue()


def test_a_finished_bar_stays(make):
    stream = Terminal()
    progress = make(stream)
    progress.update(200)

    progress.finish()

    assert stream.getvalue().count("\r") == 1
    assert stream.getvalue().endswith("\n")


@pytest.mark.parametrize(
    ("stream", "environment"),
    [(io.StringIO(), {}), (Terminal(), {"NO_COLOR": "1"})],
    ids=["a file", "a terminal with NO_COLOR"],
)
def test_elsewhere_there_are_plain_lines(make, stream, environment):
    progress = make(stream, **environment)

    progress.update(1)
    progress.finish()

    assert stream.getvalue() == "counting 1 of 200 (0 %)\n"


def test_an_empty_no_color_does_not_count(make):
    stream = Terminal()

    make(stream, NO_COLOR="").update(1)

    assert stream.getvalue().startswith("\r[")


def test_lines_come_now_and_then_and_the_last_one_always(make, clock):
    stream = io.StringIO()
    progress = make(stream)

    progress.update(1)
    clock.now_s += LINE_INTERVAL_S / 2
    progress.update(2)
    clock.now_s += LINE_INTERVAL_S / 2
    progress.update(3)
    progress.update(4)
    progress.finish()

    shown = [line.split(" of ")[0] for line in stream.getvalue().splitlines()]
    assert shown == ["counting 1", "counting 3", "counting 4"]


def test_rate_and_time_left_count_only_what_was_done_since_the_start(make, clock):
    stream = io.StringIO()
    progress = make(stream, total=2_000, done=1_000)

    clock.now_s += 10
    progress.update(1_100)

    assert progress.rate == 10
    assert stream.getvalue() == "counting 1,100 of 2,000 (55 %), 10/s, 1:30 left\n"


def test_no_time_is_left_when_all_is_done(make, clock):
    stream = io.StringIO()
    progress = make(stream)

    clock.now_s += 2
    progress.update(200)

    assert stream.getvalue() == "counting 200 of 200 (100 %), 100/s\n"


def test_nothing_to_do_is_all_done(make):
    stream = Terminal()

    make(stream, total=0).update(0)

    assert "[" + "#" * 30 + "] counting 0 of 0 (100 %)" in stream.getvalue()
