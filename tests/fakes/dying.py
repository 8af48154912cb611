"""Workers that die: after a verb of the provider, before or after a commit. What dies raises
`Crash`, which no handler catches, and writes nothing more: as after `kill -9`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session as Db

from daas.db import Database
from daas.sessions.models import Session
from fakes.providers import FakeProvider


class Crash(BaseException):
    """The worker process dies here."""


class CrashesIn(FakeProvider):
    """Does the work of `verb`, then dies before anything is written down, `times` times."""

    def __init__(self, instance: str, verb: str, times: float = 1, boots_after: int = 0):
        super().__init__(instance, boots_after)
        self.verb, self.times, self.has_died = verb, times, False

    def _after(self, verb: str, result: Any) -> Any:
        if verb == self.verb and self.times > 0:
            self.times, self.has_died = self.times - 1, True
            raise Crash(verb)
        return result


# The transactions of a session's life: who opens one, in which status. A worker can die on
# either side of each commit.
TRANSACTIONS = {
    "Worker._claim": "claim",
    "reconcile._look": "look",
    "steps.place": "place",
    "Step.save": "save",
    "Gates._enter": "enter",
    "Gates._leave": "leave",
    "reconcile._one_step": "conclude",
}


class DyingDatabase(Database):
    """Dies `when` ("before" or "after") the commit of the transaction called `point`; with no
    point it only notes in `seen` which ones there are."""

    def __init__(self, url: str, point: str = "", when: str = "after"):
        super().__init__(url, threads=8)
        self.point, self.when = point, when
        self.seen: list[str] = []
        self.has_died = False

    @contextmanager
    def transaction(self) -> Iterator[Db]:
        who = _caller()
        with super().transaction() as db:
            point = f"{who} {_status(db)}" if who else ""
            yield db
            self.seen.append(point)
            self._die(point, "before")
        self._die(point, "after")

    def _die(self, point: str, when: str) -> None:
        if not self.has_died and (point, when) == (self.point, self.when):
            self.has_died = True
            raise Crash(point)


def _status(db: Db) -> str:
    """That of the only session there is."""
    return str(db.scalar(select(Session.status)) or "none")


def _caller() -> str:
    """The kind of transaction that is being opened: the first frame that TRANSACTIONS names."""
    frame = sys._getframe(1)
    while frame:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("daas.") and module != "daas.db":
            name = frame.f_code.co_qualname
            for key in (name, f"{module.rpartition('.')[2]}.{name}"):
                if key in TRANSACTIONS:
                    return TRANSACTIONS[key]
        frame = frame.f_back
    return ""
