"""Lanes keep slow work from standing before quick work; each has its own threads. Pure."""

from enum import IntEnum, StrEnum


class Lane(StrEnum):
    LOOK = "look"  # milliseconds: decide, reserve, refresh
    MACHINE = "machine"  # seconds to minutes, and a person waits
    BULK = "bulk"  # the same, and nobody waits: refill, sweep, bake


class Priority(IntEnum):
    """Who goes first within a lane."""

    DELETE = 0
    PERSON = 1
    REFILL = 2
