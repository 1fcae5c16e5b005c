from __future__ import annotations

import pytest

from dramatiq.cli.checkup import Checkup, Limits, Overdue, Stopped, Stuck
from dramatiq.flight_recorder import Running
from dramatiq.flight_recorder.reading import Sight

LIMITS = Limits(look_s=1, stopped_looks=5, overdue_looks=3, stuck_pulses=10, blind_looks=5)


@pytest.fixture
def checkup():
    return Checkup(LIMITS)


def running(place=0, deadline=100.0, lease=b"1"):
    return Running(place, False, deadline, 1.0, lease, "work", "default")


def sight(*messages, pulses=0, expected=None):
    return Sight(pulses, False, expected or {}, list(messages))


def verdicts(checkup, sights, start_s=200.0, step_s=1.0, stopped=()):
    return [
        checkup.look(each, is_stopped=number in stopped, now_s=start_s + number * step_s)
        for number, each in enumerate(sights)
    ]


def test_a_healthy_child_is_left_alone(checkup):
    seen = verdicts(checkup, [sight(running(deadline=0), pulses=n) for n in range(50)])

    assert seen == [None] * 50


def test_a_message_past_its_hard_limit_is_overdue_once_seen_three_times(checkup):
    late = running()

    assert verdicts(checkup, [sight(late)] * 3) == [None, None, Overdue((late,))]


def test_a_message_without_deadline_or_before_it_is_not_overdue(checkup):
    assert (
        verdicts(checkup, [sight(running(deadline=0.0), running(deadline=1e9))] * 9) == [None] * 9
    )


def test_other_messages_in_the_same_place_are_not_taken_for_one(checkup):
    seen = verdicts(checkup, [sight(running(lease=b"%d" % n)) for n in range(9)])

    assert seen == [None] * 9


def test_only_those_that_are_late_are_to_blame(checkup):
    late, other = running(place=1), running(place=2, deadline=1e9)

    assert verdicts(checkup, [sight(late, other)] * 3)[-1] == Overdue((late,))


def test_a_child_that_was_just_let_go_on_has_the_time_to_notice_its_limits(checkup):
    seen = verdicts(checkup, [sight(running())] * 5, stopped={0, 1, 2})

    assert seen == [None] * 5


def test_a_child_that_stays_stopped_is_found_out_and_one_that_goes_on_is_not(checkup):
    assert verdicts(checkup, [None] * 5, stopped={0, 1, 2, 3, 4}) == [None] * 4 + [Stopped()]
    assert verdicts(Checkup(LIMITS), [None] * 9, stopped={0, 1, 2, 3, 5, 6, 7, 8}) == [None] * 9


def test_a_supervisor_that_could_not_look_starts_to_count_anew(checkup):
    seen = verdicts(checkup, [sight(running())] * 9, step_s=60)

    assert seen == [None] * 9
    assert verdicts(Checkup(LIMITS), [None] * 9, step_s=60, stopped=set(range(9))) == [None] * 9


def test_a_loop_that_is_late_by_the_childs_own_count_hangs(checkup):
    sights = [sight(pulses=n, expected={3: 7}) for n in range(20)]

    seen = verdicts(checkup, sights)

    # Seen twice: ten pulses late, and eleven.
    assert seen[:18] == [None] * 18
    assert seen[18] == Stuck(11)


def test_a_child_that_could_not_run_at_all_does_not_hang(checkup):
    # An hour passes, but not for the child.
    seen = verdicts(checkup, [sight(pulses=5, expected={3: 5})] * 3600)

    assert seen == [None] * 3600


def test_a_loop_that_moves_again_does_not_hang(checkup):
    seen = verdicts(
        checkup,
        [
            sight(pulses=30, expected={3: 20}),
            sight(pulses=31, expected={3: 32}),
            sight(pulses=32, expected={3: 22}),
            sight(pulses=33, expected={}),
        ],
    )

    assert seen == [None] * 4
