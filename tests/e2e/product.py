"""The product as its users have it: `daas init`, `daas serve` and HTTP. Nothing of ours is
imported, so that what is measured and tested is what runs."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import httpx

START_S = 40.0
STOP_S = 15.0
BUILD_S = 1500.0
BUILD = Path(__file__).resolve().parents[2] / "build"
# Read now: the fixtures of the other suites take such variables away.
LXD_ENVIRONMENT = {k: v for k, v in os.environ.items() if k.startswith("DAAS_LXD_")}
LXD_SETTINGS = ("DAAS_LXD_SOCKET", "DAAS_LXD_POOL", "DAAS_LXD_BRIDGE", "DAAS_LXD_ADDRESSES")
DAAS = [sys.executable, "-m", "daas.cli"]

Json = dict[str, Any]


class Product:
    """One installation in `data_dir`; `settings` are its environment variables."""

    def __init__(self, data_dir: Path, **settings: str):
        self.data_dir, self.port = data_dir, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        ours = {"DAAS_DATA_DIR": str(data_dir), "ORCHESTRATOR_PORT": str(self.port)}
        self.environment = {**_clean(), "DAAS_LOG_FORMAT": "json", **ours, **settings}
        self.log = data_dir / "serve.log"
        self._serve: subprocess.Popen[bytes] | None = None
        self._http: httpx.Client | None = None

    def init(self) -> None:
        """It is installed; again changes nothing."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.run("init")

    def run(self, *args: str) -> str:
        """`daas ARGS`, to its end: what it printed."""
        done = subprocess.run(
            [*DAAS, *args], env=self.environment, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            raise RuntimeError(f"daas {' '.join(args)}: {done.stdout}{done.stderr}")
        return done.stdout

    def spawn(self, *args: str, log: Path | None = None) -> subprocess.Popen[bytes]:
        """A process of ours that lasts, in a group of its own."""
        with open(log or self.log, "ab") as file:
            return subprocess.Popen(
                list(args),
                env=self.environment,
                stdout=file,
                stderr=file,
                stdin=subprocess.PIPE,
                start_new_session=True,
            )

    def start(self, *, parts: tuple[str, ...] = ("serve",)) -> None:
        """It answers on `url` and its worker is at work (with `web` alone: it answers)."""
        self._serve = self.spawn(*DAAS, *parts)
        wanted = {"database", "schema", *(("worker", "nodes") if parts == ("serve",) else ())}
        until(lambda: wanted <= self.well(), START_S, lambda: f"not up; {self.tail()}")

    def stop(self) -> None:
        if self._http:
            self._http.close()
            self._http = None
        if self._serve:
            self._serve.terminate()
            self._serve.wait(STOP_S)
            self._serve = None

    @property
    def token(self) -> str:
        return (self.data_dir / "secrets/token").read_text().strip()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def http(self) -> httpx.Client:
        if self._http is None:
            limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
            kwargs: Json = {"headers": self.headers, "timeout": 120.0, "limits": limits}
            self._http = httpx.Client(base_url=self.url, **kwargs)
        return self._http

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Json:
        """The answer's JSON; RuntimeError with what was said on a refusal."""
        answer = self.http.request(method, path, json=body, headers=headers)
        if answer.is_error:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        return dict(answer.json())

    def build(self, template: str) -> None:
        """The newest version of the template is built; nothing is done if it was."""
        found = self.call("GET", f"/api/v1/templates/{template}")
        if found["built_version"] == found["version"]:
            return
        made = self.call("POST", f"/api/v1/templates/{template}/builds")
        path = f"/api/v1/templates/{template}/builds/{made['id']}"
        ended = ("built", "failed")
        until(lambda: self.call("GET", path)["status"] in ended, BUILD_S, lambda: "still building")
        made = self.call("GET", path)
        if made["status"] == "failed":
            raise RuntimeError(f"{template} could not be built: {made['failure']}")

    def create(self, wait_s: int = 60, **body: Any) -> Json:
        """A new session, ready (or failed, or still on its way after `wait_s`)."""
        return self.call("POST", "/api/v1/sessions", body, Prefer=f"wait={wait_s}")

    def session(self, name: str) -> Json:
        return self.call("GET", f"/api/v1/sessions/{name}")

    def delete(self, name: str) -> Json:
        return self.call("DELETE", f"/api/v1/sessions/{name}")

    def credential(self, name: str) -> tuple[str, str]:
        found = self.call("GET", f"/api/v1/sessions/{name}/credential")
        return found["user"], found["password"]

    def events(self, name: str) -> list[Json]:
        return list(self.call("GET", f"/api/v1/sessions/{name}/events?limit=500")["items"])

    def wait_for(self, name: str, *statuses: str, timeout_s: float = 60.0) -> Json:
        """The session, once it has one of the statuses."""
        until(
            lambda: self.session(name)["status"] in statuses,
            timeout_s,
            lambda: f"{name} is not {' or '.join(statuses)}: {self.session(name)}",
        )
        return self.session(name)

    def clear(self) -> None:
        """No session lives."""

        def left() -> list[str]:
            return [s["id"] for s in self.call("GET", "/api/v1/sessions?limit=200")["items"]]

        for name in left():
            self.delete(name)
        until(lambda: not left(), 120.0, lambda: f"still there: {left()}")

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database says, behind the product's back."""
        with sqlite3.connect(self.data_dir / "daas.db", timeout=30) as db:
            return db.execute(sql, values).fetchall()

    def named(self, name: str) -> list[Path]:
        """Files and folders of ours that bear the name."""
        return sorted(self.data_dir.rglob(f"*{name}*"))

    def processes(self) -> list[int]:
        """All processes of `daas serve`."""
        assert self._serve
        parents = {int(p.name): _parent(p) for p in Path("/proc").glob("[0-9]*")}
        found = [self._serve.pid]
        for pid in found:  # grows while it is walked
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def well(self) -> set[str]:
        """The parts that say they are."""
        if self._serve and self._serve.poll() is not None:
            raise RuntimeError(f"daas serve ended: {self.tail()}")
        try:
            with urlopen(Request(f"{self.url}/health"), timeout=2) as answer:
                health = json.loads(answer.read())
        except OSError as error:
            body = getattr(error, "read", lambda: b"")()  # 503 says what is not well
            health = json.loads(body) if body else {"parts": []}
        return {part["name"] for part in health["parts"] if part["ok"]}


def until(is_true: Any, timeout_s: float, said: Any, each_s: float = 0.05) -> None:
    """Wait until `is_true()`; AssertionError with `said()` when it does not come true."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, said()
        time.sleep(each_s)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill(process: subprocess.Popen[bytes]) -> None:
    """The process and its group are gone, whatever they were doing."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def lxd_settings() -> dict[str, str]:
    """Which LXD, pool and bridge to use: as the environment said when we were started."""
    return {k: LXD_ENVIRONMENT[k] for k in LXD_SETTINGS if k in LXD_ENVIRONMENT}


def folder(name: str) -> Path:
    """Where an installation is kept for the next run: building its template takes a minute."""
    return Path(os.environ.get("DAAS_TEST_DIR", BUILD / "e2e")).resolve() / name


def _clean() -> dict[str, str]:
    """Our environment without settings of some other installation."""
    return dict(_not_ours(os.environ.items()))


def _not_ours(items: Any) -> Iterator[tuple[str, str]]:
    for key, value in items:
        if not key.startswith("DAAS_") and key != "ORCHESTRATOR_PORT":
            yield key, value


def _parent(proc: Path) -> int:
    try:
        return int((proc / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it ended meanwhile
        return 0
