"""What one run of Terraform costs beside Proxmox, through our door: wall time without that in which
the simulated Proxmox answered or worked."""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.frame import ROOT, Row
from daas.providers.proxmox.client import Access, Client
from daas.providers.proxmox.relay import Relay

sys.path.append(str(ROOT / "tests"))
from support.terraform import Lab, cluster, mirror_of, programs

CREATES = 4
GOALS_S = {"bpg": 1.0, "telmate": 2.0}


class Busy:
    """The spans in which a simulated cluster answered a call or ran a task."""

    def __init__(self, sim: Any):
        self.spans: list[tuple[float, float]] = []
        self._env, faults, tasks = sim.cluster.env, sim.cluster.faults, sim.cluster.tasks
        answered, run = faults.answered, tasks._run

        def _answered(call: Any, response: Any) -> None:
            self.spans.append((call.at_s, self._env.now))
            answered(call, response)

        def _run(task: Any, work: Any) -> Iterator[Any]:
            begun = self._env.now
            yield from run(task, work)
            self.spans.append((begun, self._env.now))

        faults.answered, tasks._run = _answered, _run

    def total_s(self) -> float:
        """Overlaps count once."""
        total = end = 0.0
        for begin, until in sorted(self.spans):
            total += max(0.0, until - max(begin, end))
            end = max(end, until)
        return total


def own_share(provider: str) -> list[Row]:
    if not mirror_of(f"{provider}/proxmox"):
        print(f"# no mirror here holds {provider}'s provider (DAAS_TF_MIRROR)", file=sys.stderr)
        return []
    with cluster(latencies="measured") as sim, tempfile.TemporaryDirectory() as folder:
        busy, lab = Busy(sim), Lab(programs()[0], provider, sim, Path(folder))
        access = Access((sim.url,), sim.token_id, sim.token_secret, sim.ca_file)
        relay = Relay(Client(access), Path(folder))
        lab.terraform._environment["SSL_CERT_FILE"] = str(relay.ca_file)
        with relay.door() as door:
            lab.secrets = {"token_secret": door.secret}
            shares = [_share(lab, busy, n, door.url) for n in range(20000, 20000 + CREATES)]
    name = f"terraform_own_share_{provider}"
    return [Row(name, statistics.median(shares), "s", goal=GOALS_S[provider])]


def _share(lab: Lab, busy: Busy, number: int, url: str) -> float:
    busy.spans.clear()
    begun = time.monotonic()
    lab.apply(number, api_url=url)
    return time.monotonic() - begun - busy.total_s()


BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "terraform_own_share_bpg": lambda: own_share("bpg"),
    "terraform_own_share_telmate": lambda: own_share("telmate"),
}
