from __future__ import annotations

import threading

import pytest

from beam_flowlogs.concurrency import AdaptiveGate

MB = 1024 * 1024


def opened(most: int) -> AdaptiveGate:
    """A gate that has found out that the server takes `most`."""
    gate = AdaptiveGate(most)
    while gate.limit < most:
        gate.speed_up(1.0, MB)
    return gate


def test_it_begins_with_one_and_grows_with_good_answers_up_to_its_most() -> None:
    gate = AdaptiveGate(3)
    limits = [gate.limit]
    for _ in range(4):
        gate.speed_up(1.0, MB)
        limits.append(gate.limit)
    assert limits == [1, 2, 3, 3, 3]


def test_trouble_halves_the_limit_and_it_grows_back_by_one_per_round() -> None:
    gate = opened(8)
    gate.slow_down(0.0)
    assert gate.limit == 4
    for _ in range(4):
        gate.speed_up(1.0, MB)
    assert gate.limit == 4
    gate.speed_up(1.0, MB)
    assert gate.limit == 5


def test_requests_sent_under_the_old_limit_do_not_halve_it_again() -> None:
    gate = opened(8)
    for _ in range(8):
        gate.slow_down(3600.0)
    assert gate.limit == 4


def test_one_request_is_always_let_through() -> None:
    gate = opened(8)
    for _ in range(10):
        gate.slow_down(0.0)
    assert gate.limit == 1
    with gate:
        assert gate.inside == 1
    assert gate.inside == 0


def test_answers_that_take_much_longer_than_the_best_of_late_halve_the_limit() -> None:
    gate = opened(8)
    gate.speed_up(2.9, MB)
    assert gate.limit == 8
    gate.speed_up(3.5, MB)
    assert gate.limit == 4


def test_a_server_that_has_become_slower_for_good_is_the_new_measure() -> None:
    gate = opened(4)
    for _ in range(200):
        gate.speed_up(5.0, MB)
    assert gate.limit == 4


def test_small_requests_say_nothing_about_the_pace() -> None:
    gate = opened(8)
    gate.speed_up(60.0, 1000)
    assert gate.limit == 8


def test_who_comes_when_it_is_full_waits_for_one_to_leave() -> None:
    gate = AdaptiveGate(1)
    entered = threading.Event()

    def enter() -> None:
        with gate:
            entered.set()

    with gate:
        second = threading.Thread(target=enter)
        second.start()
        assert not entered.wait(0.1)
    assert entered.wait(5)
    second.join()


def test_a_gate_for_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        AdaptiveGate(0)
