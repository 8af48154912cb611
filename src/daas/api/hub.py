"""One reader a process for everything that is followed: it waits for the bell, reads what was
sealed once, and hands it to all who listen. However many they are, the database is asked once."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from daas import events, logs
from daas.api.streams import HEARTBEAT_S, PING, POLL_S, SSE, Answer, Feed, LogFeed, Wait, rendered
from daas.db import Database
from daas.errors import NotReady
from daas.events import Event
from daas.jobs.bell import BELLS, SEALED

BATCH = 500
AWAY_S = 1.0  # between two tries when the database does not answer
LINES_EACH_S = 0.2  # writers flush twice a second; looking more often finds nothing
QUEUE_MAX = 2000  # who lags behind so far is cut off, and comes back with its last id
READERS = 8

log = logging.getLogger(__name__)
Item = tuple[Event, bytes] | None  # None: there are new lines


class Listener:
    """What was sealed about `subject` (None: about anything) since it began to listen."""

    def __init__(self, subject: str | None, feed: Feed | None = None):
        self.subject, self.feed = subject, feed
        self.items: asyncio.Queue[Item] = asyncio.Queue(QUEUE_MAX)
        self.is_cut = False

    def put(self, item: Item) -> None:
        try:
            self.items.put_nowait(item)
        except asyncio.QueueFull:
            self.is_cut = True

    async def get(self, timeout_s: float) -> Item | bool:
        """The next item; False if none came in time."""
        try:
            async with asyncio.timeout(max(timeout_s, 0.0)):
                return await self.items.get()
        except TimeoutError:
            return False


class Hub:
    """start() and close() in the loop; `read_by` are the threads that ask the database."""

    def __init__(self, database: Database):
        self._database = database
        self._listeners: dict[str | None, set[Listener]] = {}
        self._stop = threading.Event()
        self._seq = 0
        self.closing = asyncio.Event()
        self.read_by = ThreadPoolExecutor(READERS, thread_name_prefix="stream")

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._synced = asyncio.Event()
        threading.Thread(target=self._run, name="hub", daemon=True).start()

    def close(self) -> None:
        """Streams and waits end now."""
        self._stop.set()
        self.closing.set()
        BELLS[SEALED].ring()
        for listener in self._all():
            listener.put(None)

    async def stream(self, feed: Feed) -> AsyncIterator[bytes]:
        """The feed: first what the database has from its cursor on, then what comes."""
        end = time.monotonic() + feed.limit_s
        await self._synced.wait()  # from here on nothing is sealed that we do not hear of
        with self._listen(Listener(feed.subject, feed)) as listener, suppress(NotReady):
            async for chunk in self._history(feed):
                yield chunk
            while not (feed.is_over or listener.is_cut or self.closing.is_set()):
                left_s = end - time.monotonic()
                if left_s <= 0:
                    return
                item = await listener.get(min(HEARTBEAT_S, left_s))
                async for chunk in self._said(feed, item):
                    yield chunk

    async def answer(self, wait: Wait) -> Answer | None:
        """What the wait came to; None if this process ends before."""
        end = time.monotonic() + wait.limit_s
        await self._synced.wait()
        with self._listen(Listener(wait.subject)) as listener:
            while not self.closing.is_set():
                is_late = time.monotonic() >= end
                if found := await self._look(wait, is_late):
                    return found
                if is_late:
                    return None
                await listener.get(end - time.monotonic())
                while not listener.items.empty():  # one look for all that happened meanwhile
                    listener.items.get_nowait()
        return None

    async def _look(self, wait: Wait, is_late: bool) -> Answer | None:
        try:
            return await self._loop.run_in_executor(self.read_by, wait.look, is_late)
        except NotReady:  # the database is away; who waits may wait for that, too
            await asyncio.sleep(AWAY_S)
            return None

    async def _said(self, feed: Feed, item: Item | bool) -> AsyncIterator[bytes]:
        """What the feed says of an item: an event, news of lines (None), or silence (False)."""
        if item is None or (item and feed.has_lines):
            async for chunk in self._history(feed):
                yield chunk
        elif not isinstance(item, bool):
            if chunk := feed.take(*item):
                yield chunk
        elif feed.content_type == SSE:
            yield PING

    async def _history(self, feed: Feed) -> AsyncIterator[bytes]:
        while chunk := await self._loop.run_in_executor(self.read_by, feed.read):
            yield chunk

    @contextmanager
    def _listen(self, listener: Listener) -> Iterator[Listener]:
        mine = self._listeners.setdefault(listener.subject, set())
        mine.add(listener)
        try:
            yield listener
        finally:
            mine.discard(listener)
            if not mine:
                self._listeners.pop(listener.subject, None)

    def _all(self) -> list[Listener]:
        return [listener for mine in list(self._listeners.values()) for listener in list(mine)]

    def _run(self) -> None:
        is_synced = False
        while not self._stop.is_set():
            try:
                if not is_synced:
                    with self._database.reading() as db:
                        self._seq = events.last_seq(db)
                    self._loop.call_soon_threadsafe(self._synced.set)
                    is_synced = True
                self._round()
            except RuntimeError:  # the loop is closed: so are we
                return
            except Exception as error:  # the database is away; this thread must outlive that
                log.warning("streams: %s", error)
                self._stop.wait(AWAY_S)

    def _round(self) -> None:
        heard, began = BELLS[SEALED].rings, time.monotonic()
        with self._database.reading() as db:
            batch = events.after(db, self._seq, BATCH)
            fresh = [f for f in self._followers() if logs.after(db, f.subject or "", f.cursor, 1)]
        if batch:
            self._seq = batch[-1].seq or self._seq
        if batch or fresh:
            pairs = [(event, rendered(event)) for event in batch]
            self._loop.call_soon_threadsafe(self._deliver, pairs, fresh)
        if len(batch) == BATCH:
            return
        BELLS[SEALED].wait(heard, POLL_S)
        if self._followers():
            self._stop.wait(began + LINES_EACH_S - time.monotonic())

    def _followers(self) -> list[LogFeed]:
        feeds = (listener.feed for listener in self._all())
        return [feed for feed in feeds if isinstance(feed, LogFeed)]

    def _deliver(self, pairs: list[tuple[Event, bytes]], fresh: list[LogFeed]) -> None:
        for event, text in pairs:
            for key in (event.subject, None):
                for listener in self._listeners.get(key, ()):
                    listener.put((event, text))
        for feed in fresh:
            for listener in self._listeners.get(feed.subject, ()):
                if listener.feed is feed and listener.items.empty():
                    listener.put(None)
