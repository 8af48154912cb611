"""Nobody asks for an agent before it can be there, and a wrong guess holds nobody up for long."""

import pytest

from daas.providers.proxmox.boots import EARLY, Boots

TEMPLATE = 9000


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_the_first_copy_is_asked_at_once_and_the_next_when_it_may_be_there() -> None:
    clock = Clock()
    boots = Boots(clock)
    assert boots.left_s(TEMPLATE, clock.now) == 0.0

    clock.now += 8.0
    boots.came(TEMPLATE, 1_000.0)

    assert boots.left_s(TEMPLATE, clock.now) == pytest.approx(EARLY * 8.0)
    assert boots.left_s(TEMPLATE, clock.now - 60.0) == 0.0
    assert boots.left_s(9001, clock.now) == 0.0


def test_a_machine_that_was_not_just_started_is_asked_at_once() -> None:
    clock = Clock()
    boots = Boots(clock)
    boots.came(TEMPLATE, clock.now - 8.0)

    assert boots.left_s(TEMPLATE, None) == 0.0
    assert boots.left_s(None, clock.now) == 0.0


def test_a_boot_that_was_seen_too_late_is_corrected_by_the_next_ones() -> None:
    clock = Clock()
    boots = Boots(clock)
    boots.came(TEMPLATE, clock.now - 60.0)  # we were away; it took 8

    for _ in range(20):
        started = clock.now
        clock.now += max(8.0, boots.left_s(TEMPLATE, started))
        boots.came(TEMPLATE, started)

    assert boots.left_s(TEMPLATE, clock.now) < 8.0
