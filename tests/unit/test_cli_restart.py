from __future__ import annotations

from dramatiq.cli.restart import RestartHistory, RestartPolicy


def test_delays_double_up_to_the_longest_one():
    history = RestartHistory(RestartPolicy(fast_deaths_allowed=12))

    delays = [history.delay_after_death(None) for _ in range(11)]

    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]


def test_ten_fast_deaths_in_a_row_are_enough():
    history = RestartHistory(RestartPolicy())

    delays = [history.delay_after_death(0.5) for _ in range(10)]

    assert None not in delays[:9]
    assert delays[9] is None


def test_a_death_after_a_healthy_life_starts_the_count_again():
    history = RestartHistory(RestartPolicy())
    for _ in range(9):
        history.delay_after_death(None)

    delay_s = history.delay_after_death(1.0)

    assert delay_s == 0.1
    assert history.fast_deaths == 0
    assert history.delay_after_death(None) == 0.1
