from __future__ import annotations

import threading

import pytest

from beam_flowlogs.concurrency import AdaptiveGate

MB = 1024 * 1024


def opened(most: int) -> AdaptiveGate:
    """A gate that has found out that the server takes `most`."""
    gate = AdaptiveGate(most)
    while gate.limit < most:
        gate.speed_up(1.0, MB, MB)
    return gate


def test_it_begins_with_one_and_grows_with_good_answers_up_to_its_most() -> None:
    gate = AdaptiveGate(3)
    limits = [gate.limit]
    for _ in range(4):
        gate.speed_up(1.0, MB, MB)
        limits.append(gate.limit)
    assert limits == [1, 2, 3, 3, 3]


def test_trouble_halves_the_limit_and_it_grows_back_by_one_per_round() -> None:
    gate = opened(8)
    gate.slow_down(0.0)
    assert gate.limit == 4
    for _ in range(4):
        gate.speed_up(1.0, MB, MB)
    assert gate.limit == 4
    gate.speed_up(1.0, MB, MB)
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
    with gate.turn(MB):
        assert gate.inside == 1
    assert gate.inside == 0


def test_answers_that_take_much_longer_than_the_best_of_late_halve_the_limit() -> None:
    gate = opened(8)
    gate.speed_up(2.9, MB, MB)
    assert gate.limit == 8
    gate.speed_up(3.5, MB, MB)
    assert gate.limit == 4


def test_waiting_behind_requests_of_ones_own_is_no_trouble() -> None:
    gate = opened(4)
    for load in (MB, 2 * MB, 3 * MB, 4 * MB, 4 * MB):  # the server does one at a time
        gate.speed_up(load / MB, MB, load)
    assert gate.limit == 4
    gate.speed_up(13.0, MB, 4 * MB)
    assert gate.limit == 2


def test_a_small_body_behind_large_ones_is_no_trouble() -> None:
    gate = opened(4)
    gate.speed_up(25.0, MB, 25 * MB)
    assert gate.limit == 4


def test_being_alone_in_a_server_that_does_many_at_a_time_is_no_trouble() -> None:
    gate = opened(8)
    gate.speed_up(1.0, MB, 8 * MB)
    gate.speed_up(1.0, MB, MB)
    assert gate.limit == 8


def test_what_is_in_flight_is_told_by_bytes() -> None:
    gate = opened(2)
    with gate.turn(MB) as alone:
        with gate.turn(2 * MB) as both:
            pass
        with gate.turn(MB) as later:
            pass
    assert (alone, both, later) == (MB, 3 * MB, 2 * MB)


def test_a_server_that_has_become_slower_for_good_is_the_new_measure() -> None:
    gate = opened(4)
    for _ in range(200):
        gate.speed_up(5.0, MB, MB)
    assert gate.limit == 4


def test_small_requests_say_nothing_about_the_pace() -> None:
    gate = opened(8)
    gate.speed_up(60.0, 1000, 1000)
    assert gate.limit == 8


def test_who_comes_when_it_is_full_waits_for_one_to_leave() -> None:
    gate = AdaptiveGate(1)
    entered = threading.Event()

    def enter() -> None:
        with gate.turn(MB):
            entered.set()

    with gate.turn(MB):
        second = threading.Thread(target=enter)
        second.start()
        assert not entered.wait(0.1)
    assert entered.wait(5)
    second.join()


def test_a_gate_for_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        AdaptiveGate(0)
