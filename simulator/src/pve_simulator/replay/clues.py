"""What a recording tells about what no API tells: who asked, how long things took, who died.

These are inputs of a simulation, not answers: which task, which guest, which node is meant is
read off, and only for these the moment is bounded. What happened in it is the simulator's.
"""

import re
from collections import Counter
from dataclasses import dataclass

from pve_simulator.replay.recording import Exchange

NO_AGENT = "QEMU guest agent is not running"
FOREVER = 10.0**9


@dataclass
class Span:
    """At least and at most, in seconds."""

    least: float = 0.0
    most: float = FOREVER

    def choose(self, natural: float) -> float:
        """The natural value where it fits, else one that does."""
        margin = min((self.most - self.least) / 4, 0.05)
        if self.least + margin <= natural <= self.most - margin:
            return natural
        if natural < self.least + margin:
            return self.least + min((self.most - self.least) / 2, max(margin, 0.1))
        return self.most - margin if self.most - self.least > 1 else (self.least + self.most) / 2


def task_spans(exchanges: list[Exchange]) -> dict[int, Span]:
    """By the exchange that started it: how long each task whose status was asked for took."""
    started = {e.upid: e for e in exchanges if e.upid}
    spans = {e.n: Span() for e in started.values()}
    for exchange in exchanges:
        found = re.fullmatch(r"/nodes/[^/]+/tasks/(UPID:[^/]+)/status", exchange.path)
        start = started.get(found[1]) if found else None
        data = exchange.data
        if start is None or not isinstance(data, dict):
            continue
        span = spans[start.n]
        if data.get("status") == "running":
            span.least = max(span.least, exchange.answered_at - start.t)
        elif data.get("status") == "stopped":
            span.most = min(span.most, exchange.t - start.t)
    return {n: s for n, s in spans.items() if s.least or s.most < FOREVER}


class AgentSpan(Span):
    """Of a guest's agent: one that was still silent after it should have come up never does."""

    def choose(self, natural: float) -> float:
        if self.most == FOREVER and natural <= self.least:
            return FOREVER
        return super().choose(natural)


@dataclass
class Boot:
    """A start of a VM, and between which moments its agent came up."""

    vmid: int
    started_at: float
    up: Span


def boots(exchanges: list[Exchange]) -> list[Boot]:
    """Of each VM that an agent call was made to, for each of its starts. A VM that ran before the
    recording has one that began at 0."""
    found: dict[int, list[Boot]] = {}
    for exchange in exchanges:
        vm = re.match(r"/nodes/[^/]+/qemu/(\d+)/(.*)", exchange.path)
        if not vm:
            continue
        vmid, rest = int(vm[1]), vm[2]
        if exchange.method == "POST" and rest in ("status/start", "status/reboot", "status/reset"):
            found.setdefault(vmid, []).append(Boot(vmid, exchange.t, AgentSpan(exchange.t)))
        elif rest.startswith("agent/"):
            starts = found.setdefault(vmid, [Boot(vmid, 0.0, AgentSpan())])
            _learn(starts[-1].up, exchange)
    return [boot for boots_ in found.values() for boot in boots_ if _is_bounded(boot)]


def _learn(up: Span, exchange: Exchange) -> None:
    if exchange.reason == NO_AGENT:
        up.least = max(up.least, exchange.answered_at)
    elif exchange.status == 200 and up.most == FOREVER:
        # An answer that was long in coming came when the agent did.
        is_waiting = exchange.dt > 0.5
        up.most = exchange.answered_at - 0.05 if is_waiting else exchange.t
        if is_waiting:
            up.least = max(up.least, exchange.t)


def _is_bounded(boot: Boot) -> bool:
    return boot.up.most < FOREVER or boot.up.least > boot.started_at


@dataclass
class Outage:
    """A node that did not answer: from when on, until when, and when others noticed."""

    node: str
    dead_at: float
    noticed: Span
    alive_at: float = FOREVER


def outages(exchanges: list[Exchange]) -> list[Outage]:
    """Calls that came back 595 tell that their node was dead, lists when the others knew."""
    found: dict[str, Outage] = {}
    for exchange in exchanges:
        node = re.match(r"/nodes/([^/]+)", exchange.path)
        if node and exchange.status == 595:
            dead_at = exchange.t - 0.05
            found.setdefault(node[1], Outage(node[1], dead_at, Span(dead_at)))
        elif node and exchange.status == 200 and node[1] in found:
            outage = found[node[1]]
            outage.alive_at = min(outage.alive_at, exchange.t - 0.05)
        elif exchange.path in ("/nodes", "/cluster/status", "/cluster/resources"):
            _notice(found, exchange)
    return list(found.values())


def _notice(found: dict[str, Outage], exchange: Exchange) -> None:
    for row in exchange.data if isinstance(exchange.data, list) else []:
        if row.get("type") != "node":
            continue
        name = str(row.get("node") or row.get("name"))
        is_online = row.get("status") == "online" or row.get("online") == 1
        if not is_online and name not in found:
            found[name] = Outage(name, max(exchange.t - 3, 0.0), Span(max(exchange.t - 3, 0.0)))
        outage = found.get(name)
        if outage is None or exchange.t > outage.alive_at:
            continue
        if is_online:
            outage.noticed.least = max(outage.noticed.least, exchange.t)
        else:
            outage.noticed.most = min(outage.noticed.most, exchange.t)


def began_at(exchanges: list[Exchange]) -> float | None:
    """What the clock showed at the recording's zero: a UPID tells when its task was started."""
    for exchange in exchanges:
        if exchange.upid:
            return int(exchange.upid.split(":")[4], 16) - exchange.t
    return None


def asker_of(exchange: Exchange) -> str | None:
    """Who asked, as far as the answer tells: a UPID ends with its user."""
    if exchange.upid:
        return exchange.upid.split(":", 7)[7].rstrip(":")
    return None


def usual_asker(exchanges: list[Exchange], known: set[str]) -> str | None:
    """Who started most of the tasks, of those that are there from the beginning."""
    counted = Counter(asker for e in exchanges if (asker := asker_of(e)) in known)
    return counted.most_common(1)[0][0] if counted else None
