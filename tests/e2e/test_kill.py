"""kill -9 of the worker at every point of a create and of a destroy, on a real LXD: after a restart
the session reaches what was wanted, and exactly one machine exists, or none."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest

from daas.providers.lxd.client import LxdClient
from daas.providers.lxd.machine import SESSION
from e2e import tiny
from e2e.mortal_worker import ARMED, DIED, PASSED
from e2e.product import Product, kill, until

DEATH_S = 30.0
HERE = Path(__file__).parent


def around(*occasions: str) -> list[str]:
    return [f"{when} {occasion}" for occasion in occasions for when in ("before", "after")]


CREATE = around(
    "commit _look 1",
    "commit place 1",
    "commit _one_step 1",
    "commit _look 2",
    "commit save 1",
    "GET instances/NAME 1",
    "GET instances/tmpl-e2e-kill 1",
    "POST instances 1",
    "PUT instances/NAME/state 1",
    "commit _one_step 2",
    "commit _one_step 3",
    "commit _one_step 4",
    "commit _one_step 5",
)
DESTROY = around(
    "commit _look 1",
    "commit _look 2",
    "GET instances/NAME 1",
    "GET instances/NAME 2",
    "PUT instances/NAME/state 1",
    "DELETE instances/NAME 1",
    "GET instances/NAME 3",
    "commit _one_step 1",
)
PAIRS = list(zip_longest(CREATE, DESTROY))


class Site:
    """The web alone, and a worker that can be told where to die."""

    def __init__(self, product: Product):
        self.product, self._life = product, 0
        self._client = LxdClient()
        self.worker: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        if self.worker:
            kill(self.worker)
        self._client.close()

    def work(self) -> None:
        """A worker is at work."""
        if self.worker is None or self.worker.poll() is not None:
            self.product.environment["PYTHONPATH"] = str(HERE.parent)
            self.worker = self.product.spawn(sys.executable, "-m", "e2e.mortal_worker")

    def arm(self, point: str | None) -> None:
        """From now on it counts from one, and dies at `point`."""
        self._life += 1
        for name in (PASSED, DIED):
            (self.product.data_dir / name).unlink(missing_ok=True)
        new = self.product.data_dir / "mortal-new"
        new.write_text(f"{self._life} {point or '-'}")
        new.rename(self.product.data_dir / ARMED)

    def lines(self, name: str) -> list[str]:
        file = self.product.data_dir / name
        return file.read_text().splitlines() if file.exists() else []

    def must_die_at(self, point: str) -> None:
        """It did, by SIGKILL and there; then another worker takes over."""
        worker = self.worker
        assert worker is not None
        until(
            lambda: worker.poll() is not None,
            DEATH_S,
            lambda: f"never came to {point}; passed: {self.lines(PASSED)}",
        )
        assert worker.returncode == -signal.SIGKILL
        assert self.lines(DIED) == [point]
        self.arm(None)
        self.work()

    def request(self) -> str:
        return str(self.product.call("POST", "/api/v1/sessions", {"template": "tiny"})["id"])

    def machines(self, name: str) -> list[str]:
        """Those that bear the session's mark or name, running or not."""
        found = self._client.request("GET", "/1.0/instances?recursion=1")
        return [m["name"] for m in found if name in (m["name"], m["config"].get(SESSION))]


@pytest.fixture(scope="module")
def site(lxd: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    image = tiny.Image("tmpl-e2e-kill", lxd.get("DAAS_LXD_POOL", "daas"))
    product = Product(tmp_path_factory.mktemp("kill"), **lxd)
    product.init()
    made = Site(product)
    try:
        product.start(parts=("web",))
        tiny.offer(product, image.name)
        made.work()
        until(lambda: {"worker", "nodes"} <= product.well(), 20.0, product.tail)
        yield made
        product.clear()
    finally:
        made.close()
        product.stop()
        image.close()


def test_the_lists_of_kill_points_are_whole(site: Site) -> None:
    """A new request to LXD or a new commit that is in no list is a kill point nobody tries."""
    site.arm(None)
    name = site.request()
    site.product.wait_for(name, "ready")
    create = site.lines(PASSED)
    site.arm(None)
    site.product.delete(name)
    site.product.wait_for(name, "deleted")

    destroy = site.lines(PASSED)

    print("CREATE", *create, "DESTROY", *destroy, sep="\n")  # to be copied from a failure
    assert create == CREATE
    assert destroy == DESTROY


@pytest.mark.parametrize(("create", "destroy"), PAIRS)
def test_a_worker_killed_at_any_point_leaves_one_machine_or_none(
    site: Site, create: str | None, destroy: str | None
) -> None:
    site.arm(create)
    name = site.request()
    if create:
        site.must_die_at(create)
    site.product.wait_for(name, "ready")
    assert site.machines(name) == [name]

    site.arm(destroy)
    site.product.delete(name)
    if destroy:
        site.must_die_at(destroy)
    site.product.wait_for(name, "deleted")
    assert site.machines(name) == []
    assert site.product.named(name) == []
    assert site.product.rows("SELECT * FROM reservations WHERE session = ?", name) == []
