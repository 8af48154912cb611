"""One reader a process for everything that is followed: it waits for the bell, reads what was
sealed once, and hands it to all who listen. However many they are, the database is asked once."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from daas import events, logs
from daas.api.streams import HEARTBEAT_S, PING, POLL_S, SSE, Answer, Feed, LogFeed, Wait, rendered
from daas.db import Database
from daas.errors import NotReady
from daas.events import Event
from daas.jobs.bell import BELLS, SEALED

BATCH = 500
SLICE = 20  # listeners served in one go; then others have a turn, /health among them
AWAY_S = 1.0  # between two tries when the database does not answer
LINES_EACH_S = 0.2  # writers flush twice a second; looking more often finds nothing
ITEMS_MAX = 5000  # who lags behind so far is cut off, and comes back with its last id
READERS = 4
EACH_S = 0.0005  # a pause for each who follows everything: 500 of them hear 4 times a second
PAUSE_MAX_S = 0.5

log = logging.getLogger(__name__)
Told = tuple[Event, bytes]
Result = TypeVar("Result")


class Listener:
    """What was sealed about `subject` (None: about anything) since it began to listen."""

    def __init__(self, subject: str | None, feed: Feed | None = None):
        self.subject, self.feed = subject, feed
        self.is_cut = False
        self.has_lines = False  # new ones, for who follows a log
        self._told: list[Told] = []
        self._bell = asyncio.Event()

    def tell(self, *told: Told) -> None:
        """Wake it; with news, or just to look at the time."""
        self._told.extend(told)
        self.is_cut = self.is_cut or len(self._told) > ITEMS_MAX
        self._bell.set()

    async def heard(self) -> list[Told]:
        """Wait to be woken; all the news since."""
        await self._bell.wait()
        self._bell.clear()
        told, self._told = self._told, []
        return told


class Hub:
    """start() and close() in the loop. `readers` are the threads that ask the database."""

    def __init__(self, database: Database):
        self._database = database
        self._listeners: dict[str | None, set[Listener]] = {}
        self._stop = threading.Event()
        self._untold: list[Told] = []
        self._next_all = 0.0
        self._seq: int | None = None  # None until we know where we begin
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="stream")

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._synced = asyncio.Event()
        self._heart = asyncio.create_task(self._beat())
        threading.Thread(target=self._run, name="hub", daemon=True).start()

    def close(self) -> None:
        """Streams and waits end now."""
        self._stop.set()
        self._heart.cancel()
        BELLS[SEALED].ring()
        for listener in self.listeners():
            listener.tell()

    def listeners(self) -> list[Listener]:
        return [listener for mine in self._listeners.values() for listener in mine]

    async def stream(self, feed: Feed) -> AsyncGenerator[bytes]:
        """The feed: first what the database has from its cursor on, then what comes."""
        end = time.monotonic() + feed.limit_s
        await self._synced.wait()  # from here on nothing is sealed that we do not hear of
        with self._listen(Listener(feed.subject, feed), feed.limit_s) as ear, suppress(NotReady):
            async for chunk in self._history(feed):
                yield chunk
            while not (feed.is_over or ear.is_cut or self._is_over(end)):
                told = await ear.heard()
                if feed.has_lines and (told or ear.has_lines):
                    ear.has_lines = False
                    async for chunk in self._history(feed):
                        yield chunk
                elif chunk := b"".join(feed.take(*one) for one in told):
                    yield chunk
                elif feed.content_type == SSE and not told:
                    yield PING

    async def answer(self, wait: Wait) -> Answer | None:
        """What the wait came to; None if this process ends before."""
        end = time.monotonic() + wait.limit_s
        await self._synced.wait()
        with self._listen(Listener(wait.subject), wait.limit_s) as ear:
            is_due = True
            while not self._stop.is_set():
                is_late = time.monotonic() >= end
                if (is_due or is_late) and (found := await self._look(wait, is_late)):
                    return found
                is_due = any(event.after in wait.words for event, _ in await ear.heard())
        return None

    def _is_over(self, end: float) -> bool:
        return self._stop.is_set() or time.monotonic() >= end

    async def _look(self, wait: Wait, is_late: bool) -> Answer | None:
        while not self._stop.is_set():
            try:
                return await self._loop.run_in_executor(self._readers, wait.look, is_late)
            except NotReady:  # the database is away; who waits may wait for that, too
                await asyncio.sleep(AWAY_S)
        return None

    async def _history(self, feed: Feed) -> AsyncGenerator[bytes]:
        while chunk := await self._loop.run_in_executor(self._readers, feed.read):
            yield chunk

    @contextmanager
    def _listen(self, listener: Listener, limit_s: float) -> Iterator[Listener]:
        mine = self._listeners.setdefault(listener.subject, set())
        mine.add(listener)
        alarm = self._loop.call_later(limit_s, listener.tell)
        try:
            yield listener
        finally:
            alarm.cancel()
            mine.discard(listener)
            if not mine and self._listeners.get(listener.subject) is mine:
                del self._listeners[listener.subject]

    # ---- in the loop

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            for n, listener in enumerate(self.listeners()):
                listener.tell()
                await _give_way(n)

    async def _deliver(self, batch: list[Told], fresh: list[LogFeed]) -> None:
        """To those who follow one thing, at once."""
        about: dict[str, list[Told]] = {}
        for told in batch:
            about.setdefault(told[0].subject, []).append(told)
        for subject in {*about, *(feed.subject for feed in fresh)}:
            for n, listener in enumerate(list(self._listeners.get(subject, ()))):
                listener.has_lines = listener.has_lines or listener.feed in fresh
                listener.tell(*about.get(subject or "", ()))
                await _give_way(n)

    async def _deliver_all(self, batch: list[Told]) -> int:
        """To those who follow everything; return how many they are."""
        everybody = list(self._listeners.get(None, ()))
        for n, listener in enumerate(everybody):
            listener.tell(*batch)
            await _give_way(n)
        return len(everybody)

    # ---- in the thread

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._round()
            except RuntimeError:  # the loop is closed: so are we
                return
            except Exception as error:  # the database is away; this thread must outlive that
                log.warning("streams: %s", error)
                self._stop.wait(AWAY_S)

    def _round(self) -> None:
        heard, began = BELLS[SEALED].rings, time.monotonic()
        followed = self._followed()
        with self._database.reading() as db:
            if self._seq is None:
                self._seq = events.last_seq(db)
                self._loop.call_soon_threadsafe(self._synced.set)
            batch = events.after(db, self._seq, BATCH)
            fresh = [
                feed for feed in followed if logs.after(db, feed.subject or "", feed.cursor, 1)
            ]
        if batch:
            self._seq = batch[-1].seq
        told = [(event, rendered(event)) for event in batch]
        if told or fresh:
            self._in_loop(self._deliver(told, fresh))
        self._tell_all(told)
        if followed:
            self._stop.wait(began + LINES_EACH_S - time.monotonic())
        if len(batch) < BATCH:
            pause_s = self._next_all - time.monotonic() if self._untold else POLL_S
            BELLS[SEALED].wait(heard, min(max(pause_s, 0.001), POLL_S))

    def _tell_all(self, told: list[Told]) -> None:
        """Those who follow everything hear it the more at a time, the more of them there are."""
        self._untold += told
        if self._untold and time.monotonic() >= self._next_all:
            batch, self._untold = self._untold, []
            count = self._in_loop(self._deliver_all(batch))
            self._next_all = time.monotonic() + min(count * EACH_S, PAUSE_MAX_S)

    def _in_loop(self, deed: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(deed, self._loop).result()

    def _followed(self) -> list[LogFeed]:
        with suppress(RuntimeError):  # the loop changed it meanwhile: the next round will do
            feeds = [listener.feed for listener in self.listeners()]
            return [feed for feed in feeds if isinstance(feed, LogFeed)]
        return []


async def _give_way(n: int) -> None:
    if n % SLICE == SLICE - 1:
        await asyncio.sleep(0)
