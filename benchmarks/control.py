"""The control plane alone, on the simulated provider: what it costs, and that it does not grow.

The product runs as its users run it (`daas serve`, SQLite); clients speak HTTP."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.product import Product

from benchmarks import seed
from benchmarks.frame import BUILD, Row, percentile

LIVES = int(os.environ.get("DAAS_TEST_BENCH_LIVES", "10000"))
DELETED = 100_000
CLIENTS = 2  # lives at once; more would measure waiting for the two cores
LISTS = 300
WRITERS = 8
STREAMS, CREATES = 500, 200
HEALTH_S = 20.0
IDLE_S = 60.0
READY = 1000
TEMPLATE = "debian-12-xfce"


def control_plane_growth() -> list[Row]:
    """A life: POST until ready, then destroy until gone."""
    with installation() as product:
        seed.deleted(product.data_dir, _life(product), DELETED)
        with ThreadPoolExecutor(CLIENTS) as pool:
            took = list(pool.map(lambda _: _timed_life(product), range(LIVES)))
    part = LIVES // 10
    first = statistics.median(took[:part]) * 1000
    last = statistics.median(took[-part:]) * 1000
    return [Row("control_plane_growth", last, "ms", first, 1.2)]


def list_p95_growth() -> list[Row]:
    """The page of 50 that a person sees, while eight programs create and delete."""
    with installation() as product:
        one = product.create()["id"]
        p95 = []
        for live in (100, 10_000):
            seed.ready(product.data_dir, one, live)
            with _writers(product):
                took = [_timed_list(product) for _ in range(LISTS)]
            p95.append(percentile(took, 95) * 1000)
    return [Row("list_p95_growth", p95[1], "ms", p95[0], 2.0)]


def streams_health() -> list[Row]:
    """/health, asked twenty times a second while a crowd watches and waits."""
    with installation(DAAS_SIMULATED_BOOT_S="3600") as product, _crowd(product):
        took, end = [], time.monotonic() + HEALTH_S
        while time.monotonic() < end:
            took.append(_timed(lambda: product.http.get("/health").raise_for_status()))
            time.sleep(0.05)
    p95 = percentile(took, 95) * 1000
    return [Row("streams_health", p95, "ms", goal=100.0, is_strict=True)]


def idle() -> list[Row]:
    """CPU of all processes in a minute in which nobody asks for anything; then their memory."""
    with installation() as product:
        empty = _cpu_percent(product)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: product.create(), range(READY)))
        time.sleep(5)  # what follows a create is over
        full, memory = _cpu_percent(product), _pss_mb(product)
    return [
        Row("idle_cpu_0", empty, "%", goal=1.0, is_strict=True),
        Row("idle_cpu_1000", full, "%", goal=3.0, is_strict=True),
        Row("idle_memory", memory, "MB", goal=300.0),
    ]


BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "control_plane_growth": control_plane_growth,
    "list_p95_growth": list_p95_growth,
    "streams_health": streams_health,
    "idle": idle,
}


@contextmanager
def installation(**settings: str) -> Iterator[Product]:
    """`daas serve` with a built template, limits out of the way; nothing is left of it."""
    folder = Path(tempfile.mkdtemp(prefix="daas-bench-"))
    free = {"MAX_CONCURRENT_SESSIONS": "1000000", "DAAS_SIMULATED_MEMORY_MIB": "1000000000"}
    quick = {"DAAS_PROVIDER": "simulated", "DAAS_SIMULATED_BOOT_S": "0"}
    product = Product(folder, **{**quick, **free, **settings})
    try:
        product.init()
        product.start()
        product.build(TEMPLATE)
        yield product
    finally:
        product.stop()
        BUILD.mkdir(exist_ok=True)
        shutil.copy(product.log, BUILD / "bench-control.log")
        shutil.rmtree(folder)


def _life(product: Product) -> str:
    session = product.create()
    if session["status"] != "ready":
        raise RuntimeError(f"not ready: {session}")
    name = str(session["id"])
    product.call("POST", "/api/session/destroy", {"session_id": name})
    return name


def _timed_life(product: Product) -> float:
    return _timed(lambda: _life(product))


def _timed_list(product: Product) -> float:
    return _timed(lambda: product.call("GET", "/api/v1/sessions?limit=50"))


def _timed(verb: Callable[[], object]) -> float:
    begun = time.monotonic()
    verb()
    return time.monotonic() - begun


@contextmanager
def _writers(product: Product) -> Iterator[None]:
    """Clients that create and delete without a pause, for the time of the block."""
    is_over = threading.Event()

    def write() -> None:
        while not is_over.is_set():
            product.delete(product.call("POST", "/api/v1/sessions", {})["id"])

    with ThreadPoolExecutor(WRITERS) as pool:
        running = [pool.submit(write) for _ in range(WRITERS)]
        try:
            yield
        finally:
            is_over.set()
    for writer in running:
        writer.result()  # one that failed was no load


@contextmanager
def _crowd(product: Product) -> Iterator[None]:
    """A process of its own that holds the streams and the creates, so that what it does is not
    in our times. It says so when all of them are open."""
    about = {"port": product.port, "token": product.token, "streams": STREAMS, "creates": CREATES}
    crowd = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.crowd"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert crowd.stdin and crowd.stdout
    try:
        crowd.stdin.write(json.dumps(about) + "\n")
        crowd.stdin.flush()
        said = json.loads(crowd.stdout.readline())
        assert said == {"streams": STREAMS, "creates": CREATES}, said
        yield
        crowd.stdin.close()
        left = json.loads(crowd.stdout.readline())
        assert left == {"streams": STREAMS, "creates": CREATES}, f"some were let go: {left}"
    finally:
        crowd.kill()
        crowd.wait()


def _cpu_percent(product: Product) -> float:
    before = _cpu_s(product)
    time.sleep(IDLE_S)
    return (_cpu_s(product) - before) / IDLE_S * 100


def _cpu_s(product: Product) -> float:
    total = 0
    for pid in product.processes():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def _pss_mb(product: Product) -> float:
    total = 0
    for pid in product.processes():
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            total += int(line.split()[1]) if line.startswith("Pss:") else 0
    return total * 1024 / 1e6
