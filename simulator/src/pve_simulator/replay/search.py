"""Plays a recording until the guesses fit: a few playings, each some tenths of a second.

Guessed are, in this order: how long tasks take, who asked, when pvestatd looks.
"""

import copy
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

from pve_simulator import world
from pve_simulator.replay import clues, recording
from pve_simulator.replay.compare import Difference
from pve_simulator.replay.play import Guesses, Play, Played
from pve_simulator.replay.recording import Exchange
from pve_simulator.world import World

ROUNDS = 6
ASKER_TRIES = 24
LOOK_STEPS_S = 0.5
LAGGING = re.compile(r"/cluster/resources|/nodes|/pools(/.*)?|/cluster/tasks|/nodes/[^/]+/tasks")


@dataclass
class Outcome:
    """Of each exchange its differences; a recording matches where there are none."""

    exchanges: list[Exchange]
    played: Played

    @property
    def matching(self) -> int:
        return len(self.exchanges) - len(self.played.wrong)

    @property
    def matches(self) -> bool:
        return not self.played.wrong

    def differences(self, exchange: Exchange) -> list[Difference]:
        return self.played.differences[exchange.n]


def replay(world_file: str | Path, recording_file: str | Path) -> Outcome:
    """Play a recording against the cluster of a world file."""
    text = Path(world_file).read_text(encoding="utf-8")
    exchanges = recording.load(recording_file)
    search = Search(world.load(world_file), text, exchanges)
    return Outcome(exchanges, search.run())


class Search:
    def __init__(self, start: World, fixed: str, exchanges: list[Exchange]) -> None:
        # Without dice: what fits in one playing fits in the next.
        start.latencies = {**start.latencies, "spread": 0}
        self._start, self._fixed, self._exchanges = start, fixed, exchanges
        self._spans = clues.task_spans(exchanges)
        self._guesses = Guesses(looks=dict(start.looks))

    def run(self) -> Played:
        played = self._paced()
        if self._correct_askers(played):
            played = self._paced()
        return self._correct_looks(played)

    def _paced(self) -> Played:
        played = best = self._play()
        best_guesses = copy.deepcopy(self._guesses)
        for _ in range(ROUNDS):
            if not self._correct_paces(played):
                break
            played = self._play()
            if len(played.wrong) < len(best.wrong):
                best, best_guesses = played, copy.deepcopy(self._guesses)
        self._guesses = best_guesses
        return best

    def _play(self) -> Played:
        return Play(self._start, self._fixed, self._exchanges, self._guesses).run()

    def _correct_paces(self, played: Played) -> bool:
        """Where a task was too fast or too slow, another pace; whether there was one."""
        changed = False
        for n, span in self._spans.items():
            took = played.durations.get(n, clues.FOREVER)
            wanted = span.choose(took)
            if took in (0, wanted) or wanted == 0:
                continue
            kind = played.kinds.get(n, "")
            pace = self._guesses.paces.get(n, self._guesses.kinds.get(kind, 1.0))
            # A task that never ended waits for another, or was much too slow.
            ratio = wanted / took if took < clues.FOREVER else 0.5
            self._guesses.paces[n] = min(max(pace * ratio, 0.001), 1000.0)
            changed = True
        by_kind: dict[str, list[float]] = {}
        for n, pace in self._guesses.paces.items():
            if n in played.kinds:
                by_kind.setdefault(played.kinds[n], []).append(pace)
        self._guesses.kinds = {kind: statistics.median(found) for kind, found in by_kind.items()}
        return changed

    def _correct_askers(self, played: Played) -> bool:
        """A change that was refused, or was not, against the recording: let others have made it."""
        tried: dict[int, set[str]] = {}
        for _ in range(ASKER_TRIES):
            suspect = next((e for e in self._exchanges if self._is_suspect(e, played)), None)
            if suspect is None:
                break
            seen = tried.setdefault(suspect.n, {played.askers[suspect.n]})
            other = next((who for who in played.likely if who not in seen), None)
            if other is None:
                break
            seen.add(other)
            before = len(played.wrong)
            self._guesses.askers[suspect.n] = other
            again = self._play()
            if not again.differences[suspect.n] and len(again.wrong) < before:
                played = again
            else:
                del self._guesses.askers[suspect.n]
        return bool(tried)

    def _is_suspect(self, exchange: Exchange, played: Played) -> bool:
        wrong = played.differences[exchange.n]
        is_refused = any(one.where == "status" for one in wrong) and exchange.upid is None
        return exchange.method != "GET" and is_refused

    def _correct_looks(self, played: Played) -> Played:
        """If a list that lags is wrong, let pvestatd look at other moments, node by node."""
        for node in self._start.nodes:
            if node.name in self._start.looks or not self._has_wrong_list(played):
                continue
            period_s = self._period_s()
            best, best_look = played, self._guesses.looks.get(node.name)
            for step in range(int(period_s / LOOK_STEPS_S)):
                self._guesses.looks[node.name] = step * LOOK_STEPS_S + 0.1
                again = self._play()
                if len(again.wrong) < len(best.wrong):
                    best, best_look = again, self._guesses.looks[node.name]
                if not self._has_wrong_list(best):
                    break
            played = best
            if best_look is not None:
                self._guesses.looks[node.name] = best_look
        return played

    def _has_wrong_list(self, played: Played) -> bool:
        return any(played.differences[e.n] and LAGGING.fullmatch(e.path) for e in self._exchanges)

    def _period_s(self) -> float:
        return world.latencies_of(self._start).exactly("statd")
