from __future__ import annotations

import argparse
import io

import pytest

from dramatiq.cli.commands.paint import Paint
from dramatiq.cli.commands.progress import ProgressBar, Throttle
from dramatiq.cli.commands.tables import format_table, print_table, shorten
from dramatiq.cli.commands.units import (
    ago,
    as_duration,
    parse_duration,
    parse_moment,
    parse_pace,
)

NOW = 1_700_000_000_000


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("250ms", 250),
        ("30s", 30_000),
        ("1.5m", 90_000),
        ("1h30m", 5_400_000),
        ("2d", 172_800_000),
        ("0s", 0),
    ],
)
def test_durations_have_a_unit(text, milliseconds):
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5w", "5m later"])
def test_what_is_no_duration_is_refused_with_examples(text):
    with pytest.raises(argparse.ArgumentTypeError, match="30s, 5m"):
        parse_duration(text)


def test_a_moment_is_a_duration_ago_or_a_date():
    assert parse_moment("2h", NOW) == NOW - 7_200_000
    assert parse_moment("2023-11-14T22:13:20+00:00", NOW) == NOW
    with pytest.raises(argparse.ArgumentTypeError, match="yesterday"):
        parse_moment("yesterday", NOW)


def test_a_pace_is_a_number_per_time():
    assert parse_pace("50/s") == 50
    assert parse_pace("30/m") == 0.5
    for text in ("0/s", "50", "50/d", "fast"):
        with pytest.raises(argparse.ArgumentTypeError, match="50/s"):
            parse_pace(text)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (-5, "0ms"),
        (12, "12ms"),
        (59_999, "59s"),
        (60_000, "1m"),
        (61_000, "1m 1s"),
        (7_500_000, "2h 5m"),
        (90_000_000, "1d 1h"),
    ],
)
def test_durations_are_told_in_their_two_largest_units(milliseconds, text):
    assert as_duration(milliseconds) == text


def test_moments_are_told_from_here():
    assert ago(NOW - 1000, NOW) == "1s ago"
    assert ago(NOW + 60_000, NOW) == "in 1m"
    assert ago(None, NOW) == "-"


def test_columns_are_aligned_and_numbers_stand_to_the_right():
    assert format_table(["NAME", "N"], [["a", 5], ["long name", 1234], ["c", None]]) == [
        "NAME          N",
        "a             5",
        "long name  1234",
        "c             -",
    ]


def test_text_from_outside_cannot_move_the_cursor():
    lines = format_table(["A"], [["x\x1b[2J\ny"]])

    assert lines[1] == "x [2J y"


def test_long_text_is_cut_to_its_width():
    assert shorten("abcdefgh", 6) == "abc..."
    assert shorten("abcdef", 6) == "abcdef"


def test_an_empty_list_prints_nothing_on_standard_output(capsys):
    print_table(["A"], [], empty="There is nothing.")

    assert capsys.readouterr() == ("", "There is nothing.\n")


@pytest.mark.parametrize(
    ("environment", "on_terminal", "elsewhere"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_colours_are_for_terminals_unless_the_environment_says_otherwise(
    environment, on_terminal, elsewhere
):
    assert Paint(Terminal(), environment).is_on is on_terminal
    assert Paint(io.StringIO(), environment).is_on is elsewhere


def test_progress_is_shown_on_a_terminal_and_cleared_at_the_end():
    terminal = Terminal()

    with ProgressBar(200, terminal) as bar:
        bar.show(50)

    assert "50 of 200" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_no_progress_is_shown_elsewhere():
    stream = io.StringIO()

    with ProgressBar(200, stream) as bar:
        bar.show(50)

    assert stream.getvalue() == ""


def test_a_pace_is_kept_in_small_steps():
    waits = []
    throttle = Throttle(50.0, waits.append, clock=lambda: 100.0)

    assert throttle.step == 5
    throttle.keep_pace(5)
    throttle.keep_pace(10)
    assert waits == [pytest.approx(0.1), pytest.approx(0.2)]


def test_who_is_slower_than_the_pace_does_not_wait():
    moments = iter([100.0, 101.0])
    waits = []
    throttle = Throttle(50.0, waits.append, clock=lambda: next(moments))

    throttle.keep_pace(5)

    assert waits == []
