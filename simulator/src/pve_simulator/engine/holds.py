"""Every API call, numbered; and the ones that are held on their way, before or after their effect.

That is how a test stops somebody "at call N": it waits until the call is held, kills who made it,
and then lets the call take effect, or not.
"""

import re
import threading
from dataclasses import dataclass, field
from typing import Any

import simpy

from pve_simulator.api import Request, Response, Steps


class Dropped(Exception):
    """The call is treated as one that never arrived."""


@dataclass
class ApiCall:
    """One request as it came in, and its answer once there is one."""

    number: int
    at_s: float
    request: Request
    response: Response | None = None
    hold: "Hold | None" = None

    def before(self) -> Steps[None]:
        if self.hold and self.hold.when == "before":
            yield from self.hold.stop(self)

    def after(self) -> Steps[None]:
        if self.hold and self.hold.when == "after":
            yield from self.hold.stop(self)

    def as_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "at_s": round(self.at_s, 3),
            "method": self.request.method,
            "path": self.request.path,
            "status": self.response.status if self.response else None,
            "reason": self.response.reason if self.response else None,
        }


@dataclass
class Hold:
    """A call to be held: the N-th one counted from arming, of those that match."""

    id: int
    number: int
    when: str
    method: str
    path: re.Pattern[str]
    env: simpy.Environment
    seen: int = 0
    call: ApiCall | None = None
    is_dropped: bool = False
    held: simpy.Event = field(init=False)
    released: simpy.Event = field(init=False)

    def __post_init__(self) -> None:
        self.held, self.released = self.env.event(), self.env.event()
        # Somebody in another thread may wait for the first.
        self._is_held = threading.Event()

    def catches(self, request: Request) -> bool:
        """Count a request, and say whether it is the one."""
        if self.call is not None or self.released.triggered:
            return False
        if self.method not in ("", request.method) or not self.path.search(request.path):
            return False
        self.seen += 1
        return self.seen == self.number

    def stop(self, call: ApiCall) -> Steps[None]:
        if not self.held.triggered:
            self.held.succeed()
        self._is_held.set()
        if not self.released.processed:
            yield self.released
        if self.is_dropped:
            raise Dropped

    def wait(self, timeout_s: float) -> bool:
        """Block until the call is held (from another thread than the simulation's)."""
        return self._is_held.wait(timeout_s)

    @property
    def is_held(self) -> bool:
        return self._is_held.is_set() and not self.released.triggered
