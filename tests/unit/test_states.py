"""The life cycle as pure tables: every status x desired."""

from itertools import product

import pytest

from daas.jobs.lanes import Lane, Priority
from daas.sessions.states import (
    DEADLINE_S,
    NEXT,
    TURN,
    Desired,
    Status,
    after_error,
    turn,
    urgency,
    wanted,
)
from daas.sessions.steps import STEPS

SLOW = set(NEXT) - {Status.REQUESTED}
ENDS = {Status.READY, Status.STOPPED, Status.DELETED, Status.FAILED}


def test_every_working_status_has_a_step_and_a_next_and_a_deadline():
    assert STEPS.keys() == NEXT.keys() == DEADLINE_S.keys() | {Status.DELETING}


def test_every_status_is_worked_on_or_at_rest():
    assert STEPS.keys() | ENDS == set(Status)
    assert not STEPS.keys() & ENDS


@pytest.mark.parametrize("status", Status)
def test_delete_is_possible_from_every_status(status):
    expected = None if status in (Status.DELETING, Status.DELETED) else Status.DELETING

    assert turn(status, Desired.DELETED) is expected


@pytest.mark.parametrize("status, desired", list(product(Status, Desired)))
def test_only_a_session_at_rest_turns_unless_it_is_to_go(status, desired):
    """Catches: a stop that cuts a boot short, and leaves a machine half made."""
    turned = turn(status, desired)

    if desired is not Desired.DELETED:
        assert turned is TURN.get((status, desired))
        assert turned is None or status in ENDS | {Status.UNREACHABLE}


@pytest.mark.parametrize("status, desired", list(product(Status, Desired)))
def test_only_one_that_is_ready_and_wanted_becomes_unreachable(status, desired):
    """Catches: a desktop that boots when its node dies, and is `ready` once it is back."""
    turned = turn(status, desired, is_lost=True)
    is_up = (status, desired) == (Status.READY, Desired.RUNNING)
    assert turned is (Status.UNREACHABLE if is_up else turn(status, desired))


def test_failed_cannot_be_reached_once_a_session_is_to_be_deleted():
    """Catches: a failing destroy that ends in `failed` and leaks. Walks every way a
    session can go while desired=deleted: turns, finished steps, errors final or not."""
    for start in Status:
        reached, todo = set(), [start]
        while todo:
            status = todo.pop()
            turned = turn(status, Desired.DELETED)
            ways = (
                {turned}
                if turned
                else {NEXT.get(status, status)}
                | {after_error(status, Desired.DELETED, final) for final in (True, False)}
            )
            todo += ways - reached
            reached |= ways

        assert Status.FAILED not in reached and Status.DELETED in reached


@pytest.mark.parametrize("desired", [Desired.RUNNING, Desired.STOPPED])
def test_every_wanted_session_comes_to_rest_where_it_is_wanted(desired):
    """Catches: a status without a way on, or two that turn into each other for ever."""
    for start in set(Status) - {Status.FAILED, Status.DELETING, Status.DELETED}:
        status, steps = start, 0
        while (after := turn(status, desired) or NEXT.get(status)) is not None:
            status, steps = after, steps + 1
            assert steps < 12
        assert status is {"running": Status.READY, "stopped": Status.STOPPED}[desired]


@pytest.mark.parametrize("status, desired", list(product(NEXT, Desired)))
def test_only_a_final_error_of_a_wanted_session_fails_it(status, desired):
    assert after_error(status, desired, is_final=False) is status
    ends_as = status if desired is Desired.DELETED else Status.FAILED
    assert after_error(status, desired, is_final=True) is ends_as


@pytest.mark.parametrize("status", Status)
def test_quick_work_never_stands_behind_slow_work(status):
    """Catches: one FIFO for all, or looks that wait for a free machine thread."""
    for owner, lane, who in (
        ("ada", Lane.MACHINE, Priority.PERSON),
        (None, Lane.BULK, Priority.REFILL),
    ):
        where = lane if status in SLOW else Lane.LOOK
        assert urgency(status, Desired.RUNNING, owner) == (where, who)
        assert urgency(status, Desired.DELETED, owner) == (where, Priority.DELETE)


def test_a_session_past_its_time_is_to_be_deleted():
    assert wanted(Desired.RUNNING, 10.0, 9.9) is Desired.RUNNING
    assert wanted(Desired.RUNNING, 10.0, 10.0) is Desired.DELETED
    assert wanted(Desired.STOPPED, 10.0, 11.0) is Desired.DELETED
    assert wanted(Desired.STOPPED, None, 1e12) is Desired.STOPPED


def test_lanes_and_priorities_are_the_words_of_the_queue():
    assert [str(lane) for lane in Lane] == ["look", "machine", "bulk"]
    assert Priority.DELETE < Priority.PERSON < Priority.REFILL
