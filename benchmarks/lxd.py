"""Real desktops on LXD, beside the same sealed image driven by nothing but requests to LXD.

Floor and product take turns, so that both see the same machine. The installation is kept for the
next run (its template takes a minute): it is the one of the end-to-end tests."""

import hashlib
import ipaddress
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from tests.e2e.product import Product, folder, lxd_settings, until
from tests.e2e.rdp import Client, Screen

from benchmarks import raw
from benchmarks.frame import Row
from daas.providers.lxd.client import LxdClient
from daas.sessions import personal

TEMPLATE = "debian-12-xfce"
RUNS = 5
PANEL_RUNS = 3
ROUNDS, AT_ONCE = 3, 10
PANEL_S = 40.0
SETTLED_S = 10.0  # after which a booted desktop's memory stands still
FACTS_BEST_S = 0.80  # facts/lxd-desktop: clone to RDP with a template of its own /usr
PHASES = {
    "requested": "queued",
    "provisioning": "placed",
    "booting": "cloned",
    "personalizing": "booted",
    "assigning": "personalized",
    "ready": "ready",
}

Json = dict[str, Any]


class Bench:
    """The product, and raw desktops of its image at the upper end of its addresses."""

    def __init__(self, product: Product):
        self.product, self.lxd, self.inside = product, raw.Lxd(), LxdClient()
        builds = product.call("GET", f"/api/v1/templates/{TEMPLATE}/builds")["items"]
        self.image = next(b["image"] for b in builds if b["status"] == "built")
        bridge = product.environment.get("DAAS_LXD_BRIDGE", "daasbr0")
        config = self.lxd.call("GET", f"/1.0/networks/{bridge}")["config"]
        self._net = ipaddress.ip_interface(config["ipv4.address"])
        self._first_dhcp = config.get("ipv4.dhcp.ranges", "").partition("-")[0]
        self._stock = personal.KeyStock()

    def raw(self, number: int = 0) -> raw.RawDesktop:
        """A raw desktop, prepared but for the copy."""
        last = ipaddress.ip_address(self._first_dhcp or self._net.network[-2]) - 1 - number
        name = f"bench-raw-{number}"
        made = personal.make(name, raw.USER, raw.PASSWORD, self._stock)
        address = f"{last}/{self._net.network.prefixlen}"
        return raw.RawDesktop(self.lxd, self.image, name, address, made.files, made.fingerprint)

    def timed_raw(self) -> dict[str, float]:
        desktop = self.raw()
        try:
            return desktop.start()
        finally:
            desktop.remove()

    def made(self) -> Json:
        """A session that is ready, and its port shows the session's own certificate."""
        session = self.product.create()
        if session["status"] != "ready":
            raise RuntimeError(f"not ready: {session}")
        der = raw.wait_for_tls(session["rdp"]["host"], session["rdp"]["port"])
        if hashlib.sha256(der).hexdigest() != session["certificate"]["sha256"]:
            raise RuntimeError(f"{session['id']} shows another certificate than its own")
        return session

    def check_login(self, name: str) -> None:
        """PAM inside, asked as xrdp asks it, accepts the session's credential."""
        user, password = self.product.credential(name)
        args = ["pamtester", "xrdp-sesman", user, "authenticate"]
        ended = self.inside.exec(name, args, f"{password}\n".encode())
        if ended.exit_code:
            raise RuntimeError(f"{name} refuses its own password: {ended.stderr.decode()}")

    def gone(self, name: str) -> None:
        self.product.call("POST", "/api/session/destroy", {"session_id": name})

    def is_gone(self, name: str) -> bool:
        is_deleted = self.product.session(name)["status"] == "deleted"
        return is_deleted and not self.lxd.exists(name) and not self.product.named(name)


def lxd_cold_create() -> list[Row]:
    """From the request until the RDP port speaks TLS: raw; and as a session's very own."""
    floor: list[float] = []
    took: list[float] = []
    phases: list[dict[str, float]] = []
    with installation() as bench:
        for _ in range(RUNS):
            floor.append(bench.timed_raw()["tls"])
            begun, at = time.monotonic(), time.time()
            session = bench.made()
            bench.check_login(session["id"])
            took.append(time.monotonic() - begun)
            phases.append(_phases(bench.product.events(session["id"]), at))
            bench.gone(session["id"])
    floor_s, took_s = statistics.median(floor), statistics.median(took)
    by_phase = [
        Row(f"lxd_phase_{name}", statistics.median(p[name] for p in phases) * 1000, "ms")
        for name in PHASES.values()
    ]
    return [
        Row("lxd_cold_create_floor", floor_s, "s", FACTS_BEST_S, 1.2),
        Row("lxd_cold_create", took_s, "s", floor_s, 1.5),
        *by_phase,
    ]


def lxd_time_to_desktop() -> list[Row]:
    """From the request to the painted panel in the client's framebuffer."""
    floor: list[float] = []
    took: list[float] = []
    with installation() as bench:
        for _ in range(PANEL_RUNS):
            floor.append(_raw_panel(bench))
            took.append(_own_panel(bench))
    return [Row("lxd_time_to_desktop", statistics.median(took), "s", statistics.median(floor), 1.3)]


def lxd_memory_per_desktop() -> list[Row]:
    """What LXD says of the machine's cgroup, booted, nobody in."""
    used = []
    with installation() as bench:
        for _ in range(PANEL_RUNS):
            name = bench.made()["id"]
            time.sleep(SETTLED_S)
            used.append(bench.lxd.memory_mb(name))
            bench.gone(name)
    return [Row("lxd_memory_per_desktop", statistics.median(used), "MB", goal=60.0)]


def lxd_ten_at_once() -> list[Row]:
    """Until the last of ten speaks TLS."""
    floor: list[float] = []
    took: list[float] = []
    with installation() as bench:
        for _ in range(ROUNDS):
            floor.append(_ten_raw(bench))
            took.append(_ten_own(bench))
    return [Row("lxd_ten_at_once", statistics.median(took), "s", statistics.median(floor), 1.3)]


def lxd_destroy() -> list[Row]:
    """Until nobody reaches it: neither by the API nor by its port, and who is in is out; and
    until nothing is left. The worst of three."""
    access: list[float] = []
    gone: list[float] = []
    with installation(**_proxied()) as bench:
        for _ in range(PANEL_RUNS):
            cut_s, gone_s = _destroyed(bench)
            access.append(cut_s)
            gone.append(gone_s)
    return [
        Row("lxd_destroy_access", max(access), "s", goal=1.0, is_strict=True),
        Row("lxd_destroy_gone", max(gone), "s", goal=5.0, is_strict=True),
    ]


BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "lxd_cold_create": lxd_cold_create,
    "lxd_time_to_desktop": lxd_time_to_desktop,
    "lxd_memory_per_desktop": lxd_memory_per_desktop,
    "lxd_ten_at_once": lxd_ten_at_once,
    "lxd_destroy": lxd_destroy,
}


@contextmanager
def installation(**settings: str) -> Iterator[Bench]:
    """The product on this machine's LXD with its template built; its sessions are gone after."""
    limits = {"DAAS_PROVIDER": "lxd", "MAX_CONCURRENT_SESSIONS": "100"}
    product = Product(folder("lxd"), **{**lxd_settings(), **limits, **settings})
    try:
        product.init()
        product.start()
        product.build(TEMPLATE)
        product.clear()
        time.sleep(2.0)  # the stock of keys is full again
        try:
            yield Bench(product)
        finally:
            product.clear()
    finally:
        product.stop()


def _phases(events: list[Json], begun: float) -> dict[str, float]:
    """Seconds from the request (epoch) to each phase; the host's clock is the database's."""
    reached = {e["after"]: datetime.fromisoformat(e["at"]).timestamp() for e in reversed(events)}
    return {name: reached[status] - begun for status, name in PHASES.items()}


def _raw_panel(bench: Bench) -> float:
    desktop, screen = bench.raw(), Screen()
    try:
        begun = time.monotonic()
        desktop.start()
        endpoint = f"{desktop.address}:{raw.RDP}"
        client = Client(screen, endpoint, raw.USER, raw.PASSWORD, desktop.fingerprint)
        try:
            return client.wait_for_panel(PANEL_S) - begun
        finally:
            client.close()
    finally:
        screen.close()
        desktop.remove()


def _own_panel(bench: Bench) -> float:
    screen = Screen()
    try:
        begun = time.monotonic()
        session = bench.product.create()
        client = _client(bench, screen, session)
        try:
            return client.wait_for_panel(PANEL_S) - begun
        finally:
            client.close()
            bench.gone(session["id"])
    finally:
        screen.close()


def _client(bench: Bench, screen: Screen, session: Json) -> Client:
    user, password = bench.product.credential(session["id"])
    endpoint = f"{session['rdp']['host']}:{session['rdp']['port']}"
    return Client(screen, endpoint, user, password, session["certificate"]["sha256"])


def _ten_raw(bench: Bench) -> float:
    desktops = [bench.raw(number) for number in range(AT_ONCE)]
    try:
        return _at_once([desktop.start for desktop in desktops])
    finally:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda desktop: desktop.remove(), desktops))


def _ten_own(bench: Bench) -> float:
    made: list[Json] = []
    took_s = _at_once([lambda: made.append(bench.made())] * AT_ONCE)
    for session in made:
        bench.check_login(session["id"])
    bench.product.clear()
    time.sleep(6.0)  # the stock of keys is full again, as before the first of ten
    return took_s


def _at_once(verbs: list[Callable[[], object]]) -> float:
    with ThreadPoolExecutor(len(verbs)) as pool:
        begun = time.monotonic()
        for ended in [pool.submit(verb) for verb in verbs]:
            ended.result()
        return time.monotonic() - begun


def _proxied() -> dict[str, str]:
    """Ports of an address of this host lead to the desktops, as where the bridge is not reachable
    from the LAN."""
    bridge = os.environ.get("DAAS_LXD_BRIDGE", "daasbr0")
    address = raw.Lxd().call("GET", f"/1.0/networks/{bridge}")["config"]["ipv4.address"]
    return {"DAAS_LXD_PROXY_LISTEN": address.partition("/")[0]}


def _destroyed(bench: Bench) -> tuple[float, float]:
    session, screen = bench.made(), Screen()
    try:
        client = _client(bench, screen, session)
        client.wait_for_panel(PANEL_S)
        begun = time.monotonic()
        ends = [client.ended, lambda: _refused(session), lambda: _closed(bench, session)]
        watch = _Watch(ends)
        bench.product.delete(session["id"])
        cut_s = watch.last() - begun
        until(lambda: bench.is_gone(session["id"]), 60.0, lambda: "still there", 0.02)
        return cut_s, time.monotonic() - begun
    finally:
        client.close()
        screen.close()


class _Watch:
    """Looks all the time since when each of the conditions holds."""

    def __init__(self, conditions: list[Callable[[], bool]]):
        self._since: list[float] = []
        self._threads = [threading.Thread(target=self._look, args=(c,)) for c in conditions]
        for thread in self._threads:
            thread.start()

    def last(self) -> float:
        for thread in self._threads:
            thread.join()
        if len(self._since) < len(self._threads):
            raise RuntimeError("somebody could still get in after 30 s")
        return max(self._since)

    def _look(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 30.0
        while (now := time.monotonic()) < end:
            if holds():
                self._since.append(now)
                return
            time.sleep(0.02)


def _refused(session: Json) -> bool:
    try:
        raw.certificate(session["rdp"]["host"], session["rdp"]["port"])
    except OSError:
        return True
    return False


def _closed(bench: Bench, session: Json) -> bool:
    """The API names no endpoint any more, and does not tell the password."""
    path = f"/api/v1/sessions/{session['id']}/credential"
    is_told = bench.product.http.get(path).is_success
    return not is_told and bench.product.session(session["id"])["rdp"] is None
