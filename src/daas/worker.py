"""The worker process: claim a due job, hand it to the handler of its kind, again."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from daas import events
from daas.config import Settings
from daas.db import Database
from daas.errors import LeaseLost, NotReady
from daas.jobs import queue
from daas.jobs.bell import BELLS, EVENTS
from daas.jobs.lanes import Lane
from daas.jobs.models import Job
from daas.jobs.work import Work
from daas.wiring import Handler

STOP_S = 5.0  # steps have this long to leave off; then their leases are given back anyway
SEAL_REST_S = 0.02  # what comes in a burst is sealed together; a lone event still at once
AWAY_S = 1.0  # between two tries when the database does not answer

log = logging.getLogger(__name__)


class Worker:
    """`name` tells workers of one host apart; it stays the same over a restart."""

    def __init__(
        self,
        database: Database,
        handlers: Mapping[str, Handler],
        settings: Settings,
        name: str = "1",
    ):
        self.database, self.handlers, self.settings = database, handlers, settings
        self.holder = queue.holder(name)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._at_work: set[Work] = set()
        # One thread of a lane at a time looks out for work; the others wait for their turn at
        # that, not for the database: an idle lane costs one look a second, however wide it is.
        self._lookout = {lane: threading.Lock() for lane in Lane}

    def start(self) -> None:
        with self.database.transaction() as db:
            queue.free_predecessor(db, self.holder)
        self._spawn("seal", 1, self._seal)
        for lane in Lane:
            threads = getattr(self.settings, f"{lane}_threads")
            self._spawn(lane, threads, partial(self._serve, lane))

    def stop(self) -> None:
        """Nothing of ours is leased any more, after 5 s at most."""
        self._stop.set()
        for work in list(self._at_work):
            work.stop.set()
        for bell in BELLS.values():
            bell.ring()
        deadline = time.monotonic() + STOP_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with suppress(NotReady), self.database.transaction() as db:
            queue.free_own(db, self.holder)

    def work_once(self, lane: Lane) -> bool:
        """Do one due job; return False when nothing was due."""
        job = self._claim(lane)
        if job:
            self._do(job)
        return job is not None

    def _serve(self, lane: Lane) -> None:
        with self._lookout[lane]:
            job = self._await(lane)
        if job:
            self._do(job)

    def _await(self, lane: Lane) -> Job | None:
        """Wait for a job of `lane`; None when the worker is to stop."""
        while not self._stop.is_set():
            heard = BELLS[lane].rings
            with self.database.reading() as db:
                due_in_s = queue.due_in_s(db, lane)
            if due_in_s is not None and due_in_s <= 0 and (job := self._claim(lane)):
                return job
            wait_s = min(self.settings.poll_s, due_in_s or self.settings.poll_s)
            BELLS[lane].wait(heard, max(wait_s, 0.001))
        return None

    def _claim(self, lane: Lane) -> Job | None:
        with self.database.transaction() as db:
            return queue.claim(db, lane, self.holder, self.settings.lease_s)

    def _do(self, job: Job) -> None:
        work = Work(self.database, job, self.settings)
        self._at_work.add(work)
        if self._stop.is_set():  # claimed while stop() went through those at work
            work.stop.set()
        try:
            self.handlers[job.kind](work)
        except LeaseLost as lost:
            log.warning("dropped: %s", lost)
        except NotReady as error:
            log.warning("%s %s: %s", job.kind, job.key, error)
            self._back_off(job)
        except Exception:
            log.exception("%s %s: unexpected error", job.kind, job.key)
            self._back_off(job)
        finally:
            self._at_work.discard(work)

    def _back_off(self, job: Job) -> None:
        with suppress(LeaseLost, NotReady), self.database.transaction() as db:
            queue.retry(db, job)

    def _seal(self) -> None:
        heard = BELLS[EVENTS].rings
        if events.seal(self.database):
            self._stop.wait(SEAL_REST_S)
        else:
            BELLS[EVENTS].wait(heard, self.settings.poll_s)

    def _spawn(self, name: str, threads: int, verb: Callable[[], None]) -> None:
        for n in range(threads):
            thread = threading.Thread(
                target=self._loop, args=(name, verb), name=f"{name}-{n}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _loop(self, name: str, verb: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                verb()
            except Exception as error:  # the database is away; this thread must outlive that
                log.warning("%s: %s", name, error)
                self._stop.wait(AWAY_S)
