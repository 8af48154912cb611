"""What a contract test needs of a hypervisor beside the contract, and the simulated one."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from daas.providers.base import Provider, Size, Spec, State, Tag
from daas.providers.simulated import SimulatedProvider

OURS, THEIRS = "contract-a", "contract-b"
SIZE = Size(cpus=1, memory_mib=256, disk_gib=1)


class NotHere(Exception):
    """This hypervisor cannot be tested on this machine; the message says why."""


class Killed(BaseException):
    """Our process died here: nothing of ours runs any more, not even a cleanup."""


@dataclass
class KillPoint:
    """Dies at the n-th call, after the hypervisor has heard it. `was_hit` says it happened."""

    number: int
    seen: list[str] = field(default_factory=list)

    def __call__(self, call: str) -> None:
        self.seen.append(call)
        if len(self.seen) == self.number:
            raise Killed(call)

    @property
    def was_hit(self) -> bool:
        return len(self.seen) >= self.number


def nothing(state: State) -> None:
    """A `save` for tests that do not look at what is saved."""


def new_name() -> str:
    return "desktop-" + "".join(
        secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in "123456"
    )


class Lab:
    """`ours` and `theirs` are two orchestrators on the same hypervisor."""

    image: str
    ours: Provider
    theirs: Provider

    def spec(self, name: str, instance: str = OURS, **changes: Any) -> Spec:
        tag = Tag(instance, name, secrets.token_hex(4))
        return replace(Spec("", self.image, SIZE, tag), **changes)

    def made(self, provider: Provider, instance: str = OURS, **changes: Any) -> tuple[str, State]:
        name = new_name()
        state = provider.ensure(name, self.spec(name, instance, **changes), {}, nothing)
        return name, state

    @contextmanager
    def killed_at(
        self, number: int
    ) -> Iterator[tuple[Provider, Callable[[State], None], KillPoint]]:
        raise NotImplementedError

    def names(self) -> set[str]:
        """All machines there are, whoever made them."""
        raise NotImplementedError

    def is_on(self, name: str) -> bool:
        raise NotImplementedError

    def size(self, name: str) -> Size:
        raise NotImplementedError

    def shut_down(self, name: str) -> None:
        """As if somebody had shut the guest down from inside."""
        raise NotImplementedError

    def retag(self, name: str, tag: Tag) -> None:
        raise NotImplementedError

    def rename(self, name: str, new: str) -> None:
        raise NotImplementedError

    def clean(self) -> None: ...

    def close(self) -> None: ...


class SimulatedLab(Lab):
    def __init__(self) -> None:
        if os.environ.get("DAAS_CONTRACT", "simulated") != "simulated":
            raise NotHere("another hypervisor was asked for")
        self.clean()

    def clean(self) -> None:
        self.image = "sim-contract-1"
        self.sim, other = SimulatedProvider(OURS), SimulatedProvider(THEIRS)
        other._guests = self.sim._guests  # one hypervisor under both
        self.ours, self.theirs = self.sim, other

    @contextmanager
    def killed_at(
        self, number: int
    ) -> Iterator[tuple[Provider, Callable[[State], None], KillPoint]]:
        point = KillPoint(number)
        yield self.ours, lambda state: point("save"), point

    def names(self) -> set[str]:
        return set(self.sim._guests)

    def is_on(self, name: str) -> bool:
        return self.sim._guests[name].is_on

    def size(self, name: str) -> Size:
        return self.sim._guests[name].spec.size

    def shut_down(self, name: str) -> None:
        self.sim.shut_down(name)

    def retag(self, name: str, tag: Tag) -> None:
        self.sim.retag(name, tag)

    def rename(self, name: str, new: str) -> None:
        self.sim._guests[new] = self.sim._guests.pop(name)
