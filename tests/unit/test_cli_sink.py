from __future__ import annotations

import fcntl
import os
import selectors
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dramatiq.cli import sink as sink_module
from dramatiq.cli.sink import HELD_AT_MOST, LogSink

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(sink_module, "PATIENCE_S", 0.05)


@pytest.fixture
def pipe():
    """A pipe of the smallest size, as a reading descriptor and a text file to write to."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(writer, "w") as stream:
        yield reader, stream
    with suppress(OSError):
        os.close(reader)


def read_all(reader, sink):
    """Read until the sink has nothing left to say."""
    received = b""
    os.set_blocking(reader, False)
    while True:
        with suppress(BlockingIOError):
            received += os.read(reader, 65_536)
            continue
        sink.flush()
        if not sink._held and not sink.dropped:
            with suppress(BlockingIOError):
                received += os.read(reader, 65_536)
                continue
            return received


def test_a_reader_that_is_behind_gets_every_line_later(pipe):
    reader, stream = pipe
    sink = LogSink(stream)
    lines = [b"line %d\n" % number for number in range(5_000)]

    for line in lines:
        sink.write(line)

    assert read_all(reader, sink) == b"".join(lines)


@pytest.mark.usefixtures("impatient")
def test_a_reader_that_never_reads_costs_lines_and_no_waiting(pipe):
    reader, stream = pipe
    sink = LogSink(stream)
    count = 3 * HELD_AT_MOST // len(LINE)
    started = time.monotonic()

    for _ in range(count):
        sink.write(LINE)

    assert time.monotonic() - started < 5
    assert len(sink._held) <= HELD_AT_MOST
    dropped = sink.dropped
    text = read_all(reader, sink).decode()
    assert f"{dropped} lines of the log were dropped here" in text
    assert text.count("x\n") + dropped == count


@pytest.mark.usefixtures("impatient")
def test_lines_go_on_after_the_gap_is_told_of(pipe):
    reader, stream = pipe
    sink = LogSink(stream)
    while not sink.dropped:
        sink.write(LINE)

    first = read_all(reader, sink)
    sink.write(b"after the gap\n")

    assert first.endswith(b"could not be written.\n")
    assert os.read(reader, 100) == b"after the gap\n"


def test_a_slow_reader_slows_the_writer_down_instead_of_losing_lines(pipe):
    reader, stream = pipe
    sink = LogSink(stream)
    sink._held += LINE * (HELD_AT_MOST // len(LINE))
    child = os.fork()
    if child == 0:
        os.close(stream.fileno())
        time.sleep(0.1)
        while os.read(reader, 65_536):
            pass
        os._exit(0)
    os.close(reader)

    for _ in range(500):
        sink.write(LINE)

    assert sink.dropped == 0
    sink.close()
    stream.close()
    assert os.waitpid(child, 0)[1] == 0


def test_a_loop_writes_what_is_held_and_rests_when_nothing_is(pipe):
    reader, stream = pipe
    sink = LogSink(stream)
    with selectors.DefaultSelector() as selector:
        sink.attach(selector)
        sink.write(LINE * 100)
        was_watched = bool(selector.get_map())
        received = b""
        while len(received) < 100 * len(LINE):
            received += os.read(reader, 65_536)
            for key, _ in selector.select(1 if selector.get_map() else 0):
                key.data()
        is_watched = bool(selector.get_map())

    assert was_watched
    assert not is_watched
    assert received == LINE * 100


def test_a_reader_that_is_gone_is_no_error_and_is_not_waited_for(pipe):
    reader, stream = pipe
    sink = LogSink(stream)
    os.close(reader)

    with selectors.DefaultSelector() as selector:
        sink.attach(selector)
        for _ in range(10):
            sink.write(LINE)
        is_watched = bool(selector.get_map())
        sink.close()

    assert not is_watched
    assert sink.dropped == 10


@pytest.mark.usefixtures("impatient")
def test_the_end_waits_only_a_moment_for_a_stopped_reader(pipe):
    _, stream = pipe
    sink = LogSink(stream)
    sink.write(LINE * 1000)
    started = time.monotonic()

    sink.close()

    assert time.monotonic() - started < 5


def test_sockets_are_written_to_without_waiting():
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("w") as stream:
        sink = LogSink(stream)
        lines = [b"line %d\n" % number for number in range(50_000)]

        for line in lines:
            sink.write(line)

        assert read_all(theirs.fileno(), sink) == b"".join(lines)


def test_a_full_disk_costs_lines_which_are_told_of_when_there_is_room(tmp_path, monkeypatch):
    path = tmp_path / "log"
    is_full = False
    real_write = os.write

    def write(descriptor, data):
        if is_full:
            raise OSError(28, "No space left on device")
        return real_write(descriptor, data)

    monkeypatch.setattr(sink_module.os, "write", write)
    with path.open("a") as stream:
        sink = LogSink(stream)
        sink.write(b"one\n")
        is_full = True
        sink.write(b"two\n")
        sink.write(b"three\n")
        is_full = False
        sink.write(b"four\n")
        sink.close()

    assert path.read_text() == (
        "one\n[dramatiq] 2 lines of the log were dropped here, because they could not be written.\n"
        "four\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_device_that_is_always_full_raises_nothing():
    with Path("/dev/full").open("a") as stream:
        sink = LogSink(stream)
        for _ in range(3):
            sink.write(b"lost\n")
        sink.close()

    assert sink.dropped == 3


def test_records_of_the_supervisor_take_the_same_way(tmp_path):
    with (tmp_path / "log").open("a") as stream:
        sink = LogSink(stream)

        sink.as_stream().write("größe\n")

    assert (tmp_path / "log").read_text(encoding="utf-8") == "größe\n"


def test_there_may_be_no_standard_error_at_all():
    sink = LogSink(None)

    sink.write(b"nobody hears this\n")
    sink.close()
