"""One playing of a recording against a fresh cluster, with guesses for what nobody can know."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from pve_simulator import world
from pve_simulator.api import Request, Response, Steps
from pve_simulator.dispatch import answer
from pve_simulator.engine.cluster import Cluster
from pve_simulator.engine.tasks import Task
from pve_simulator.replay import clues
from pve_simulator.replay.askers import Askers, fill_secrets
from pve_simulator.replay.compare import Difference, Names, differences
from pve_simulator.replay.recording import Exchange
from pve_simulator.world import World

TASK_LOG = re.compile(r"/nodes/[^/]+/tasks/[^/]+/log")


class SimulatorFault(Exception):
    """The simulator itself broke."""


@dataclass
class Guesses:
    """`paces`: by exchange, how much slower than by default its task goes; `kinds`: the same by
    type of task; `looks`: by node, when pvestatd looks first."""

    paces: dict[int, float] = field(default_factory=dict)
    kinds: dict[str, float] = field(default_factory=dict)
    looks: dict[str, float] = field(default_factory=dict)
    askers: dict[int, str] = field(default_factory=dict)


@dataclass
class Played:
    """What came of it. `durations`: of the tasks that ended, in seconds, by exchange."""

    differences: dict[int, list[Difference]] = field(default_factory=dict)
    durations: dict[int, float] = field(default_factory=dict)
    kinds: dict[int, str] = field(default_factory=dict)
    askers: dict[int, str] = field(default_factory=dict)
    likely: list[str] = field(default_factory=list)  # who else could have asked

    @property
    def wrong(self) -> list[int]:
        return [n for n, found in self.differences.items() if found]


class Play:
    """Plays once; make another for another try."""

    def __init__(
        self, start: World, fixed: str, exchanges: list[Exchange], guesses: Guesses
    ) -> None:
        self._exchanges = exchanges
        self._guesses = guesses
        self._cluster: Cluster = world.build(start, looks=guesses.looks)
        self._cluster.began_at = clues.began_at(exchanges) or self._cluster.began_at
        self._entry = str(start.replay.get("entry") or next(iter(self._cluster.nodes)))
        access = self._cluster.access
        self._askers = Askers(access, exchanges, start.replay, guesses.askers)
        self._names = Names(fixed.lower())
        self._waiting: list[tuple[Exchange, Any]] = []
        self._result = Played()
        self._starting: Exchange | None = None
        self._cluster.tasks.on_start = self._task_started

    def run(self) -> Played:
        self._plan_boots()
        self._plan_outages()
        for exchange in self._exchanges:
            self._settle_until(exchange)
            if exchange.t > self._cluster.env.now:
                self._cluster.env.run(until=exchange.t)
            self._ask(exchange)
        for exchange, process in self._waiting:
            self._finish(exchange, process)
        if self._cluster.crashes:
            raise SimulatorFault("\n".join(self._cluster.crashes))
        self._result.likely = list(self._askers.others(""))
        return self._result

    # -- asking --------------------------------------------------------------------------------

    def _settle_until(self, upcoming: Exchange) -> None:
        """Have the answers that were there when the next request was sent."""
        still: list[tuple[Exchange, Any]] = []
        for exchange, process in self._waiting:
            if exchange.answered_at <= upcoming.t:
                self._finish(exchange, process)
            else:
                still.append((exchange, process))
        self._waiting = still

    def _ask(self, exchange: Exchange) -> None:
        asker = self._askers.choose(exchange)
        self._result.askers[exchange.n] = asker
        self._waiting.append((exchange, self._send(exchange, asker)))

    def _send(self, exchange: Exchange, asker: str) -> Any:
        translate = self._names.translate
        params = {
            key: [translate(one) for one in value] if isinstance(value, list) else translate(value)
            for key, value in exchange.params.items()
        }
        params = fill_secrets(exchange, params, self._cluster.access)
        path = translate(exchange.path)
        request = Request(exchange.method, path, params, self._askers.headers(asker), self._entry)
        return self._cluster.env.process(self._answering(exchange, request))

    def _answering(self, exchange: Exchange, request: Request) -> Steps[Response]:
        # Which exchange a task belongs to is seen when the request that starts it is answered.
        before = {task.upid for task in self._cluster.tasks}
        response = yield from answer(self._cluster, request)
        for task in self._cluster.tasks:
            if task.upid not in before and task.upid in response.body:
                self._result.kinds[exchange.n] = task.type
        return response

    def _finish(self, exchange: Exchange, process: Any) -> None:
        response: Any = self._cluster.env.run(until=process)
        found = self._compare(exchange, response)
        if found and self._may_be_another(exchange, response):
            found = self._try_others(exchange, found)
        self._result.differences[exchange.n] = found

    def _compare(self, exchange: Exchange, response: Response) -> list[Difference]:
        found: list[Difference] = []
        if exchange.status != response.status:
            found.append(Difference("status", exchange.status, response.status))
        found += differences(exchange.reason, response.reason, self._names, "reason")
        if exchange.content_type != response.content_type:
            found.append(Difference("content type", exchange.content_type, response.content_type))
        body = json.loads(response.body) if response.body else ""
        if TASK_LOG.fullmatch(exchange.path):
            found += differences(_last_line(exchange.response), _last_line(body), self._names)
            return found
        found += differences(exchange.response, body, self._names)
        return found

    def _may_be_another(self, exchange: Exchange, response: Response) -> bool:
        """Whether these differences look as if somebody with other rights had asked."""
        if exchange.method != "GET" or self._askers.is_known(exchange):
            return False
        if exchange.status != response.status:
            return bool({401, 403} & {exchange.status, response.status})
        return exchange.status == 200 and _is_of_other_extent(exchange.data, response.data)

    def _try_others(self, exchange: Exchange, found: list[Difference]) -> list[Difference]:
        # A question changes nothing, so it may be asked again by others.
        for asker in self._askers.others(self._result.askers[exchange.n]):
            response: Any = self._cluster.env.run(until=self._send(exchange, asker))
            if not self._compare(exchange, response):
                self._result.askers[exchange.n] = asker
                self._askers.found_out(asker)
                return []
        return found

    # -- what is guessed -----------------------------------------------------------------------

    def _task_started(self, task: Task) -> None:
        """Give a task its pace, and take its time."""
        exchange = self._exchange_of(task)
        pace = self._guesses.kinds.get(task.type, 1.0)
        if exchange is not None:
            pace = self._guesses.paces.get(exchange.n, pace)
        process = task.process
        assert process is not None and process.callbacks is not None
        self._cluster.env.set_pace(process, pace)
        began = self._cluster.env.now
        if exchange is not None:
            number = exchange.n

            def ended(_: Any) -> None:
                self._result.durations[number] = self._cluster.env.now - began

            process.callbacks.append(ended)

    def _exchange_of(self, task: Task) -> Exchange | None:
        """The request being served that starts a task of this type and subject."""
        meaning = (task.type, task.id)
        for exchange, process in self._waiting:
            recorded = exchange.upid
            if recorded is None or not process.is_alive or exchange.n in self._result.kinds:
                continue
            parts = recorded.split(":")
            if (parts[5], parts[6]) == meaning:
                return exchange
        return None

    def _plan_boots(self) -> None:
        plans = self._cluster.agent_plans
        for boot in clues.boots(self._exchanges):
            plans.setdefault(boot.vmid, []).append((boot.started_at, boot.up))

    def _plan_outages(self) -> None:
        for outage in clues.outages(self._exchanges):
            node = self._cluster.nodes.get(outage.node)
            if node is not None and node.is_alive and not self._cluster.has_events:
                self._cluster.env.process(self._outage(outage, node))

    def _outage(self, outage: clues.Outage, node: Any) -> Steps[None]:
        env = self._cluster.env
        yield env.timeout(max(outage.dead_at, 0))
        node.is_alive = False
        natural = env.now + self._cluster.latencies.exactly("membership")
        yield env.timeout(outage.noticed.choose(natural) - env.now)
        node.is_online = False
        if outage.alive_at < clues.FOREVER:
            yield env.timeout(max(outage.alive_at - env.now, 0))
            node.is_alive = node.is_online = True


def _last_line(body: Any) -> Any:
    """What a task says on its way is prose; how it ended is not."""
    lines = body.get("data") if isinstance(body, dict) else None
    return lines[-1].get("t") if isinstance(lines, list) and lines else body


def _is_of_other_extent(expected: Any, got: Any) -> bool:
    """Whether the recorded answer shows less or more than ours."""
    return _count(expected) != _count(got)


def _count(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(_count(one) for one in value.values())
    return 1 + sum(_count(one) for one in value) if isinstance(value, list) else 1
