"""What goes wrong around us, on a real LXD: guests that do not come up, images that are gone, a
second orchestrator, LXD itself stopped. Each ends with a reason a person understands."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from daas.errors import NotOurs
from daas.providers.lxd.client import LxdClient
from daas.providers.lxd.machine import INSTANCE, Place
from daas.providers.lxd.provider import LxdProvider
from e2e import tiny
from e2e.product import LXD_ENVIRONMENT, Product, until

ROOT = Path(__file__).resolve().parents[2]
MAY_STOP_LXD = os.environ.get("DAAS_TEST_MAY_STOP_LXD") == "1"


@pytest.fixture(scope="module")
def images(lxd: dict[str, str]) -> Iterator[dict[str, tiny.Image]]:
    pool = lxd.get("DAAS_LXD_POOL", "daas")
    made = {
        "never-boots": tiny.Image("tmpl-e2e-never", pool, tiny.NEVER_BOOTS),
        "dies": tiny.Image("tmpl-e2e-dies", pool, tiny.DIES),
    }
    yield made
    for image in made.values():
        image.close()


@pytest.fixture(scope="module")
def site(
    lxd: dict[str, str],
    images: dict[str, tiny.Image],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Product]:
    made = Product(tmp_path_factory.mktemp("faults"), **lxd, DAAS_FAILED_KEEP_S="0")
    made.init()
    try:
        made.start()
        for name, image in images.items():
            tiny.offer(made, image.name, name)
        tiny.offer(made, "tmpl-e2e-was-never-made", "gone")
        yield made
        made.clear()
    finally:
        made.stop()


@pytest.fixture
def client() -> Iterator[LxdClient]:
    made = LxdClient()
    yield made
    made.close()


def test_a_missing_image_fails_the_session_and_says_what_to_run(site: Product) -> None:
    assert "daas template build" in _failure(site, site.create(template="gone")["id"])


def test_a_container_that_dies_at_once_fails_and_is_taken_away(
    site: Product, client: LxdClient
) -> None:
    name = site.create(template="dies", wait_s=30)["id"]

    assert "stopped before its desktop was up" in _failure(site, name)
    until(lambda: name not in _names(client), 30.0, lambda: "its machine is still there")


def test_a_container_that_never_boots_fails_at_its_deadline_and_is_taken_away(
    site: Product, client: LxdClient
) -> None:
    name = site.create(template="never-boots", wait_s=1)["id"]
    site.wait_for(name, "booting")
    assert name in _names(client)

    site.rows("UPDATE sessions SET deadline = 1 WHERE name = ?", name)

    assert "still waiting for the desktop to open its RDP port" in _failure(site, name)
    until(lambda: name not in _names(client), 30.0, lambda: "its machine is still there")


def test_a_delete_wins_over_a_boot_that_never_ends(site: Product, client: LxdClient) -> None:
    name = site.create(template="never-boots", wait_s=1)["id"]
    site.wait_for(name, "booting")

    site.delete(name)

    site.wait_for(name, "deleted", timeout_s=15.0)
    assert name not in _names(client)


def test_a_second_orchestrator_touches_nothing_of_the_first(
    site: Product,
    client: LxdClient,
    lxd: dict[str, str],
    tmp_path: Path,
) -> None:
    name = site.create(template="never-boots", wait_s=1)["id"]
    site.wait_for(name, "booting")
    place = Place(lxd.get("DAAS_LXD_POOL", "daas"), lxd.get("DAAS_LXD_BRIDGE", "daasbr0"))
    second = LxdProvider(client, "another-installation", place, str(tmp_path))

    assert name not in [m.name for m in second.owned()]
    with pytest.raises(NotOurs):
        second.destroy(name, {})
    with pytest.raises(NotOurs):
        second.delete_image("tmpl-e2e-never")
    with _another(lxd, tmp_path):  # a whole one: it looks, sweeps, and leaves
        assert name in _names(client)
    assert name in _names(client)


def test_a_machine_retagged_by_hand_is_left_alone_and_reported(
    site: Product, client: LxdClient
) -> None:
    name = site.create(template="never-boots", wait_s=1)["id"]
    site.wait_for(name, "booting")
    client.do("PATCH", f"/1.0/instances/{name}", {"config": {INSTANCE: "somebody"}})
    try:
        site.delete(name)
        site.wait_for(name, "deleted", timeout_s=30.0)

        assert name in _names(client)
        said = site.call("GET", "/api/v1/events?limit=500")["items"]
        assert [e["after"] for e in said if e["subject"] == f"machine/{name}"] == ["left alone"]
    finally:
        order = {"action": "stop", "force": True, "timeout": -1}
        client.do("PUT", f"/1.0/instances/{name}/state", order)
        client.do("DELETE", f"/1.0/instances/{name}")


@pytest.mark.skipif(not MAY_STOP_LXD, reason="others may use this LXD: DAAS_TEST_MAY_STOP_LXD=1")
def test_sessions_wait_while_lxd_is_stopped_and_go_on_when_it_is_back(site: Product) -> None:
    """Guests live on meanwhile; nothing of LXD's is lost."""
    old = site.create(template="never-boots", wait_s=1)["id"]
    site.wait_for(old, "booting")
    _stop_lxd()
    try:
        new = site.create(template="never-boots", wait_s=1)["id"]
        for name, verb in ((new, "create"), (old, "delete")):
            if verb == "delete":
                site.delete(name)
            until(
                lambda name=name: "LXD" in (site.session(name)["waiting_for"] or ""),
                30.0,
                lambda name=name: f"does not say why it waits: {site.session(name)}",
            )
    finally:
        _start_lxd()

    site.wait_for(new, "booting", timeout_s=60.0)
    site.wait_for(old, "deleted", timeout_s=60.0)


def _failure(site: Product, name: str) -> str:
    """Why it failed; it may be gone already, for failed ones are not kept here."""
    site.wait_for(name, "failed", "deleting", "deleted", timeout_s=60.0)

    def said() -> list[str]:
        return [str(e["reason"]) for e in site.events(name) if e["after"] == "failed"]

    # An event is seen once it is sealed, a moment after the status it tells of.
    until(lambda: len(said()) == 1, 10.0, lambda: str(site.events(name)))
    return said()[0]


def _names(client: LxdClient) -> list[str]:
    return [one["name"] for one in client.request("GET", "/1.0/instances?recursion=1")]


class _another:  # noqa: N801 (reads as a function)
    """Another installation, at work on the same LXD for the time of the block."""

    def __init__(self, lxd: dict[str, str], folder: Path):
        self._product = Product(folder / "another", **lxd)

    def __enter__(self) -> Product:
        self._product.init()
        self._product.start()
        swept = "SELECT run_at FROM jobs WHERE kind = 'sweep' AND run_at > unixepoch() + 60"
        until(lambda: self._product.rows(swept), 20.0, lambda: "it did not sweep")
        return self._product

    def __exit__(self, *_: object) -> None:
        self._product.stop()


def _stop_lxd() -> None:
    """The daemon alone, as a crash would: containers have monitors of their own."""
    for pid in subprocess.check_output(["pgrep", "-x", "lxd"], text=True).split():
        if "[lxc monitor]" not in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(int(pid), signal.SIGKILL)


def _start_lxd() -> None:
    environment = {**os.environ, **LXD_ENVIRONMENT}
    subprocess.run([ROOT / "deploy/lxd-up"], env=environment, check=True, timeout=180)
