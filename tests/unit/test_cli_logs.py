from __future__ import annotations

import argparse
import io
import logging
import os
import selectors
import threading

import pytest

from dramatiq.cli import LOGFORMAT, VERBOSITY, setup_parent_logging
from dramatiq.cli.channel import BootReport, ReportReader
from dramatiq.cli.log_pipes import (
    LONGEST_LINE,
    LogReader,
    PipeWriter,
    open_log_pipe,
    watch_logs,
)
from dramatiq.cli.sink import LogSink


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    open_ends = {reader, writer}
    yield reader, writer, open_ends
    for end in open_ends:
        os.close(end)


@pytest.fixture
def log(pipe):
    return LogReader(pipe[0], LogSink(io.StringIO()))


def logged(reader):
    return reader._sink.stream.getvalue()


def test_complete_lines_are_passed_on_and_the_rest_waits(pipe, log):
    _, writer, _ = pipe
    os.write(writer, b"one\ntw")

    log.read()

    assert logged(log) == "one\n"
    os.write(writer, b"o\n")
    log.read()
    assert logged(log) == "one\ntwo\n"


def test_the_unfinished_last_line_of_a_process_is_not_lost(pipe, log):
    os.write(pipe[1], b"no newline")

    log.finish()

    assert logged(log) == "no newline\n"


def test_all_that_is_left_in_the_pipe_is_read_at_the_end(pipe, log):
    lines = b"".join(b"line %d\n" % number for number in range(5_000))
    os.write(pipe[1], lines)

    log.finish()

    assert logged(log).encode() == lines


def test_a_progress_bar_without_newlines_is_shown(pipe, log):
    os.write(pipe[1], b"\r10 %\r20 %")

    log.read()

    assert logged(log) == "\r10 %\r"


def test_an_endless_line_is_passed_on_in_pieces(pipe, log):
    for _ in range(2):
        os.write(pipe[1], b"x" * (LONGEST_LINE - 4096))
        log.read()

    assert len(logged(log)) > LONGEST_LINE


def test_undecodable_bytes_are_replaced(pipe, log):
    os.write(pipe[1], b"caf\xe9\n")

    log.read()

    assert logged(log) == "caf\ufffd\n"


def test_an_empty_pipe_does_not_block_the_reader(log):
    assert not log.read()
    assert not log.at_end


def test_a_sink_that_cannot_be_written_to_does_not_stop_anything(pipe):
    class FullDisk(io.StringIO):
        def write(self, _text):
            raise OSError(28, "No space left on device")

    os.write(pipe[1], b"lost\n")

    assert LogReader(pipe[0], LogSink(FullDisk())).read()


def test_the_loop_forgets_a_pipe_whose_writer_is_gone(pipe):
    reader, writer, open_ends = pipe
    with selectors.DefaultSelector() as selector:
        watch_logs(selector, reader, LogSink(io.StringIO()))
        os.close(writer)
        open_ends.discard(writer)

        for key, _ in selector.select(5):
            key.data()

        assert not selector.get_map()


def test_a_process_whose_supervisor_is_gone_may_still_print(pipe):
    reader, writer, open_ends = pipe
    os.close(reader)
    open_ends.clear()

    with open_log_pipe(writer) as stream:
        print("nobody reads this", file=stream)


def test_a_closed_log_pipe_swallows_what_comes_later(pipe):
    _, writer, open_ends = pipe
    open_ends.discard(writer)
    closed = PipeWriter(writer)

    closed.close()
    closed.close()
    closed.send_bytes(b"late")

    assert closed.closed


def test_a_line_goes_out_in_one_piece(pipe):
    reader, writer, open_ends = pipe
    open_ends.discard(writer)
    stream = open_log_pipe(writer)

    stream.write("one ")
    stream.write("line\nand ")

    assert os.read(reader, 100) == b"one line\n"
    stream.close()


def test_threads_do_not_break_the_lines_of_one_another(pipe):
    reader, writer, open_ends = pipe
    open_ends.discard(writer)
    stream = open_log_pipe(writer)

    stream.write("begun ")
    thread = threading.Thread(target=print, args=("whole",), kwargs={"file": stream, "flush": True})
    thread.start()
    thread.join(5)
    print("and ended", file=stream)

    assert os.read(reader, 100) == b"whole\nbegun and ended\n"
    stream.close()


def test_unfinished_lines_go_out_on_flush_and_at_the_end(pipe):
    reader, writer, open_ends = pipe
    open_ends.discard(writer)
    stream = open_log_pipe(writer)

    print("asked?", end=" ", flush=True, file=stream)
    flushed = os.read(reader, 100)
    thread = threading.Thread(target=stream.write, args=("last dot.",))
    thread.start()
    thread.join(5)
    stream.finish()

    assert flushed == b"asked? "
    assert os.read(reader, 100) == b"last dot."
    stream.close()


def test_a_report_is_complete_only_with_its_last_byte(pipe):
    reader, writer, _ = pipe
    report = BootReport(2, "no", ["a"], ["b"], ["m:f"])
    encoded = report.encode()
    reports = ReportReader(reader)

    os.write(writer, encoded[:-1])
    early = reports.read()
    os.write(writer, encoded[-1:])

    assert early is None
    assert reports.read() == report
    assert reports.read() is None


@pytest.fixture
def main_logger():
    logger = logging.getLogger("dramatiq.MainProcess")
    before = logger.handlers[:], logger.level, logger.propagate, logging.root.handlers[:]
    yield logger
    logger.handlers[:], logger.level, logger.propagate, logging.root.handlers[:] = before


def test_the_main_process_logs_in_the_documented_format(main_logger):
    stream = io.StringIO()
    logging.root.handlers.clear()

    logger = setup_parent_logging(argparse.Namespace(verbose=0), stream=stream)
    logger.info("hello %d", 1)
    logger.debug("hidden")

    assert logger is main_logger
    line = stream.getvalue()
    assert f"[PID {os.getpid()}] [MainThread] [dramatiq.MainProcess] [INFO] hello 1\n" in line
    assert "hidden" not in line


@pytest.mark.usefixtures("main_logger")
def test_setting_up_twice_does_not_log_twice():
    stream = io.StringIO()
    logging.root.handlers.clear()

    for _ in range(2):
        logger = setup_parent_logging(argparse.Namespace(verbose=3), stream=stream)
    logger.debug("once")

    assert stream.getvalue().count("once") == 1


def test_an_application_that_configured_logging_keeps_it(main_logger):
    stream = io.StringIO()
    logging.root.addHandler(logging.StreamHandler(stream))

    logger = setup_parent_logging(argparse.Namespace(verbose=0))
    logger.info("theirs")

    assert main_logger.handlers == []
    assert stream.getvalue() == "theirs\n"


def test_names_that_plugins_import_keep_their_values():
    assert VERBOSITY == {0: logging.INFO, 1: logging.DEBUG}
    assert logging.Formatter(LOGFORMAT).usesTime()
