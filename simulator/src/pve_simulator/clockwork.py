"""The simulation in real time: inside one event loop, each event at its moment."""

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import simpy

from pve_simulator.api import Steps
from pve_simulator.engine.cluster import Cluster

T = TypeVar("T")


class Clockwork:
    """Runs the cluster's events when they are due. Everything happens in the loop's thread."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._env = cluster.env
        self._began = time.monotonic() - self._env.now
        self._loop = asyncio.get_running_loop()
        self._threads = concurrent.futures.ThreadPoolExecutor(16, "guest")
        self._timer: asyncio.TimerHandle | None = None
        cluster.offload = self._offload

    async def run(self, steps: Generator[simpy.Event, Any, T]) -> T:
        """Let a process run and wait for its result."""
        done: asyncio.Future[T] = self._loop.create_future()
        self._catch_up()
        process = self._env.process(steps)
        assert process.callbacks is not None
        process.callbacks.append(lambda event: _settle(done, event))
        self.turn()
        return await done

    def turn(self) -> None:
        """Do all that is due, and set the alarm for what comes next."""
        self._catch_up()
        while self._env.peek() <= self._env.now:
            self._step()
        if self._timer is not None:
            self._timer.cancel()
        upcoming = self._env.peek()
        if upcoming != float("inf"):
            delay = max(upcoming - (time.monotonic() - self._began), 0)
            self._timer = self._loop.call_later(delay, self.turn)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _catch_up(self) -> None:
        now = time.monotonic() - self._began
        while self._env.peek() <= now:
            self._step()
        if now > self._env.now:
            self._env.run(until=now)

    def _step(self) -> None:
        try:
            self._env.step()
        except Exception as error:  # a process that nobody waited for
            self._cluster.crashed(repr(error))

    def _offload(self, work: Callable[[], T]) -> Steps[T]:
        """Do something slow in a thread; simulated time goes on meanwhile, as real time does."""
        event = self._env.event()

        def finished(future: concurrent.futures.Future[T]) -> None:
            self._loop.call_soon_threadsafe(self._deliver, event, future)

        self._threads.submit(work).add_done_callback(finished)
        result: T = yield event
        return result

    def _deliver(self, event: simpy.Event, future: concurrent.futures.Future[Any]) -> None:
        self._catch_up()
        error = future.exception()
        if isinstance(error, Exception):
            event.fail(error)
        else:
            event.succeed(future.result())
        self.turn()


def _settle(done: asyncio.Future[Any], event: Any) -> None:
    if done.done():
        return
    if event.ok:
        done.set_result(event.value)
    else:
        event.defused = True
        done.set_exception(event.value)
