"""Following what takes a while: news by the event stream, or by looking again where it breaks."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from daas.cli.http import Api, ApiAway, ApiRefused

Json = dict[str, Any]
LOOK_S = 2.0  # between two looks while the stream says nothing: place in line, time left
POLL_S = 0.5  # the same where there is no stream
AWAY_S = 60.0  # a restart of the API is over by then


def changes(
    api: Api, path: str, feed: str, is_over: Callable[[Json], bool]
) -> Iterator[tuple[Json, Json]]:
    """The thing at `path` and the last news of the stream `feed`; now and after each news, until
    `is_over`. An API that is restarted meanwhile is waited for."""
    news: queue.Queue[Json] = queue.Queue()
    reader = threading.Thread(target=_listen, args=(api, feed, news), daemon=True)
    reader.start()
    last: Json = {}
    while True:
        found = _look(api, path)
        yield found, last
        if is_over(found):
            return
        last = _newest(news, LOOK_S if reader.is_alive() else POLL_S) or last


def _newest(news: "queue.Queue[Json]", wait_s: float) -> Json:
    """Wait for news; several at once are one look."""
    newest: Json = {}
    with contextlib.suppress(queue.Empty):
        newest = news.get(timeout=wait_s)
        while True:
            newest = news.get_nowait()
    return newest


def _look(api: Api, path: str) -> Json:
    deadline = time.monotonic() + AWAY_S
    while True:
        try:
            found: Json = api.get(path)
            return found
        except (ApiAway, ApiRefused) as error:
            is_busy = isinstance(error, ApiAway) or error.status == 503
            if not is_busy or time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)


def _listen(api: Api, feed: str, news: "queue.Queue[Json]") -> None:
    # A stream that breaks off ends this thread: who waits sees that, and polls.
    with contextlib.suppress(ApiAway, ApiRefused, ValueError):
        for one in api.server_events(feed):
            news.put(one)
