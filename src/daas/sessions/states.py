"""What state a session is in, what its owner wants, and how one leads to the other.

Pure: no database, no I/O. Read this file first.
"""

from enum import StrEnum

from daas.jobs.lanes import Lane, Priority


class Status(StrEnum):
    REQUESTED = "requested"  # accepted; waiting for room on a node
    PROVISIONING = "provisioning"  # the provider is making the machine
    BOOTING = "booting"  # machine exists; guest not answering yet
    PERSONALIZING = "personalizing"  # the guest becomes itself: host name, keys, domain
    ASSIGNING = "assigning"  # the guest learns whose it is; a claimed warm one starts here
    READY = "ready"  # its owner can connect; without an owner it waits in its pool
    UNREACHABLE = "unreachable"  # was ready; its node has been silent for too long
    STOPPING = "stopping"
    STOPPED = "stopped"
    STARTING = "starting"
    DELETING = "deleting"  # the provider is removing the machine; never gives up
    DELETED = "deleted"
    FAILED = "failed"  # gave up; the reason is on the session


class Desired(StrEnum):
    RUNNING = "running"
    STOPPED = "stopped"
    DELETED = "deleted"


# Finishing the work a status names leads to the next status.
NEXT = {
    Status.REQUESTED: Status.PROVISIONING,
    Status.PROVISIONING: Status.BOOTING,
    Status.BOOTING: Status.PERSONALIZING,
    Status.PERSONALIZING: Status.ASSIGNING,
    Status.ASSIGNING: Status.READY,
    Status.UNREACHABLE: Status.READY,
    Status.STOPPING: Status.STOPPED,
    Status.STARTING: Status.BOOTING,
    Status.DELETING: Status.DELETED,
}

# A session at rest turns when its owner wants something else.
TURN = {
    (Status.READY, Desired.STOPPED): Status.STOPPING,
    (Status.STOPPED, Desired.RUNNING): Status.STARTING,
    # Its node may never come back: that its owner gives it up must count at once.
    (Status.UNREACHABLE, Desired.STOPPED): Status.STOPPING,
}

COMING = (  # on the way to being ready for the first time
    Status.REQUESTED,
    Status.PROVISIONING,
    Status.BOOTING,
    Status.PERSONALIZING,
    Status.ASSIGNING,
)

# How long each may wait before it fails. Deleting may for ever.
DEADLINE_S = {
    Status.REQUESTED: 600.0,
    Status.PROVISIONING: 1800.0,
    Status.BOOTING: 600.0,
    Status.PERSONALIZING: 600.0,
    Status.ASSIGNING: 120.0,
    Status.UNREACHABLE: 600.0,  # from when its node answers again
    Status.STOPPING: 300.0,
    Status.STARTING: 300.0,
}

SLOW = NEXT.keys() - {Status.REQUESTED}  # their work is a machine's


def turn(status: Status, desired: Desired, is_lost: bool = False) -> Status | None:
    """Return the status to turn to before doing any work, or None to carry on. `is_lost`: its
    node has been silent for too long."""
    if desired is Desired.DELETED and status not in (Status.DELETING, Status.DELETED):
        return Status.DELETING
    if is_lost and (status, desired) == (Status.READY, Desired.RUNNING):
        return Status.UNREACHABLE
    return TURN.get((status, desired))


def after_error(status: Status, desired: Desired, is_final: bool) -> Status:
    """Return where an error leads: back to another try, unless it is final and the session is
    still wanted. Thus nothing that should go away is ever given up on."""
    return Status.FAILED if is_final and desired is not Desired.DELETED else status


def wanted(desired: Desired, expires_at: float | None, now_s: float) -> Desired:
    """What is wanted now: a session past its time is to go, whatever was asked before."""
    return Desired.DELETED if expires_at is not None and expires_at <= now_s else desired


def urgency(status: Status, desired: Desired, owner: str | None) -> tuple[Lane, Priority]:
    """Where and how soon the next work of such a session is to be done."""
    slow_lane = Lane.MACHINE if owner else Lane.BULK
    whose = Priority.PERSON if owner else Priority.REFILL
    is_going = desired is Desired.DELETED
    return slow_lane if status in SLOW else Lane.LOOK, Priority.DELETE if is_going else whose
