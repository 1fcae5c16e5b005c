from __future__ import annotations

import multiprocessing
import sys

import pytest

from dramatiq.compat import StreamablePipe, file_or_stderr


@pytest.fixture
def pipe():
    reader, writer = multiprocessing.Pipe(duplex=False)
    yield reader, writer
    reader.close()
    writer.close()


def test_text_goes_through_the_pipe_as_bytes(pipe):
    reader, writer = pipe
    stream = StreamablePipe(writer)

    written = stream.write("größe\n")
    stream.flush()

    assert written == 6
    assert reader.recv_bytes() == "größe\n".encode()


def test_print_and_writelines_work(pipe):
    reader, writer = pipe
    stream = StreamablePipe(writer)

    print("one", end="", file=stream)
    stream.writelines(["two"])

    assert reader.recv_bytes() == b"one"
    assert reader.recv_bytes() == b"two"


def test_what_the_encoding_lacks_is_replaced(pipe):
    reader, writer = pipe
    stream = StreamablePipe(writer, encoding="ascii")

    stream.write("ä")

    assert reader.recv_bytes() == b"?"
    assert (stream.encoding, stream.errors) == ("ascii", "replace")


def test_nothing_is_sent_for_empty_text(pipe):
    reader, writer = pipe
    stream = StreamablePipe(writer)

    stream.write("")

    assert not reader.poll()


def test_it_is_a_stream_for_writing_only(pipe):
    _, writer = pipe
    stream = StreamablePipe(writer)

    assert stream.fileno() == writer.fileno()
    assert stream.writable()
    assert not stream.readable()
    assert not stream.isatty()
    with pytest.raises(NotImplementedError):
        stream.read()


def test_closing_closes_the_pipe_and_is_harmless_twice(pipe):
    _, writer = pipe
    stream = StreamablePipe(writer)
    assert not stream.closed

    stream.close()
    stream.close()

    assert stream.closed
    assert writer.closed


def test_without_a_file_standard_error_is_lent_and_stays_open():
    with file_or_stderr(None) as stream:
        assert stream is sys.stderr

    assert not sys.stderr.closed


def test_a_file_is_appended_to_and_closed(tmp_path):
    path = tmp_path / "log"
    path.write_text("before\n", encoding="utf-8")

    with file_or_stderr(str(path)) as stream:
        stream.write("größe\n")

    assert stream.closed
    assert path.read_text(encoding="utf-8") == "before\ngröße\n"


def test_mode_and_encoding_of_the_file_can_be_chosen(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"gone")

    with file_or_stderr(str(path), mode="w", encoding="latin-1") as stream:
        stream.write("ß")

    assert path.read_bytes() == b"\xdf"
