from __future__ import annotations

import multiprocessing
import time

import pytest

from dramatiq.canteen import BUFFER_SIZE, Canteen, canteen_add, canteen_get, canteen_try_init


def test_paths_come_back_in_the_order_in_which_they_were_added():
    canteen = Canteen()
    canteen.initialized = True

    canteen_add(canteen, "first:one")
    canteen_add(canteen, "second:zwölf")

    assert canteen_get(canteen) == ["first:one", "second:zwölf"]


def test_reading_gives_up_when_nobody_fills_the_canteen():
    canteen = Canteen()
    canteen_add(canteen, "half:done")
    started = time.monotonic()

    paths = canteen_get(canteen, timeout=0.05)

    assert paths == []
    assert 0.05 <= time.monotonic() - started < 1


def test_a_path_that_does_not_fit_is_refused_and_changes_nothing():
    canteen = Canteen()
    canteen.initialized = True
    canteen_add(canteen, "a:b")

    with pytest.raises(RuntimeError, match="full"):
        canteen_add(canteen, "x" * BUFFER_SIZE)

    assert canteen_get(canteen) == ["a:b"]


def test_only_the_first_one_may_fill_a_shared_canteen():
    canteen = multiprocessing.Value(Canteen)

    with canteen_try_init(canteen) as first:
        canteen_add(canteen, "only:me")
    with canteen_try_init(canteen) as second:
        pass

    assert (first, second) == (True, False)
    assert canteen_get(canteen) == ["only:me"]


def test_a_writer_that_fails_leaves_no_reader_waiting():
    canteen = multiprocessing.Value(Canteen)

    with pytest.raises(ZeroDivisionError), canteen_try_init(canteen):
        raise ZeroDivisionError

    assert canteen_get(canteen, timeout=0) == []
    with canteen_try_init(canteen) as is_first:
        assert not is_first


def _fill(canteen):
    with canteen_try_init(canteen) as is_first:
        if is_first:
            canteen_add(canteen, "from:child")


def test_what_a_child_process_wrote_is_read_in_its_parent():
    context = multiprocessing.get_context("spawn")
    canteen = context.Value(Canteen)
    processes = [context.Process(target=_fill, args=(canteen,)) for _ in range(2)]

    for process in processes:
        process.start()
    for process in processes:
        process.join(30)

    assert canteen_get(canteen, timeout=10) == ["from:child"]
