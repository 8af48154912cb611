"""`daas demo`, behind `make demo`: install, serve, build, one desktop; again only what is missing.
All of it lives in DAAS_DATA_DIR (var/demo) and build/."""

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from daas import process, wiring
from daas.cli import desktop, render, server, session, template
from daas.cli.http import Api, ApiAway
from daas.cli.progress import Steps
from daas.config import ROOT, Settings, settings
from daas.crypto import Vault
from daas.errors import DaasError, NotYet

START_S, STOP_S = 40.0, 8.0
OWNER = "demo"
BUILD = Path(os.environ.get("DAAS_DEMO_BUILD") or ROOT / "build")
LOG = BUILD / "serve.log"
app = typer.Typer()


@app.command(hidden=True)
def demo() -> None:
    """Have one desktop up and running, from nothing. Started by `make demo`."""
    chosen = settings()
    began = time.monotonic()
    try:
        made = server.install(chosen)
        render.say(f"  ✓ installed in {_short(chosen.data_dir)} (instance {made.instance})")
        api = serve(chosen)
        build(api, chosen)
        summary = describe(api, chosen, one_desktop(api, chosen))
    except KeyboardInterrupt:
        render.say("Stopped. `make demo` goes on from here; `make clean` takes all away.")
        raise
    write_summary(summary)
    show(summary, time.monotonic() - began)


def serve(chosen: Settings) -> Api:
    """`daas serve` runs in the background with these settings, and answers."""
    running = Running.read(chosen.data_dir / "serve.json")
    if running and running.settings != _what_matters(chosen):
        if running.settings["orchestrator_port"] != chosen.orchestrator_port:
            _check_port(chosen)  # before the one that works is ended
        running.stop()
        running = None
    if running is None:
        _check_port(chosen)
        running = Running.start(chosen)
    token = server.token_file(chosen).read_text().strip()
    api = Api(f"http://127.0.0.1:{chosen.orchestrator_port}", token)
    with Steps() as steps:
        steps.now("starting the service")
        _wait_until(lambda: _is_up(api), running)
    return api


def _check_port(chosen: Settings) -> None:
    server.check_port(chosen.listen, chosen.orchestrator_port)


def build(api: Api, chosen: Settings) -> None:
    """The newest version of the default template has its image."""
    name = chosen.default_template
    found = api.get(f"/templates/{name}")
    if found["built_version"] == found["version"] and _has_image(api, chosen):
        return
    made = api.post(f"/templates/{name}/builds")
    if template.await_built(api, name, made["id"])["status"] == "failed":
        raise DaasError(
            "There is no desktop without its template. Mend that, and `make demo` again."
        )


def one_desktop(api: Api, chosen: Settings) -> dict[str, Any]:
    made = api.post("/sessions", {"owner": OWNER, "reuse": True})
    found = session.await_ready(api, made["id"])
    if found["status"] != "ready":
        raise DaasError(
            f"The desktop is {found['status']}: {found.get('failure') or 'see daas why'} "
            f"Look at {_short(LOG)}, then `make demo` again."
        )
    return found


def describe(api: Api, chosen: Settings, found: dict[str, Any]) -> dict[str, Any]:
    """What the person needs to use the desktop; nothing secret, but the files where it is."""
    login = desktop.credential(api, found["id"])
    password_file = None
    if login.password:
        path = chosen.data_dir / "passwords" / found["id"]
        password_file = desktop.keep_password(found["id"], login.password, path)
    command = shlex.join(desktop.command(found, login.username))
    token = server.token_file(chosen)
    url = f"{api.url}/api/v1/sessions/{found['id']}"
    return {
        "id": found["id"],
        "host": found["rdp"]["host"],
        "port": found["rdp"]["port"],
        "user": login.username,
        "password_file": str(password_file) if password_file else None,
        "fingerprint": desktop.fingerprint(found),
        "xfreerdp": f"{command} < {password_file}" if password_file else command,
        "url": api.url,
        "token_file": str(token),
        "curl": f"curl -s -H @{server.header_file(chosen)} {url}",
        "provider": chosen.provider,
        "template": found["template"],
        "log": str(LOG),
    }


def show(summary: dict[str, Any], took_s: float) -> None:
    if summary["provider"] == "simulated":
        render.say("\nThis is the simulated provider: all but the guest is real.")
    render.say(f"\nA desktop is up ({render.span(took_s)}).\n")
    words = {"session": "id", "address": "host", "user": "user", "API": "url", "log": "log"}
    facts = {name: summary[key] for name, key in words.items()}
    facts["address"] = f"{summary['host']}:{summary['port']}"
    facts["one-time password"] = f"in {summary['password_file']} (mode 600)"
    render.facts(facts)
    print(f"\nConnect:\n  {summary['xfreerdp']}")
    print(f"\nAsk the API:\n  {summary['curl']}")
    print("\nThe same by command:")
    print(f"  export DAAS_URL={summary['url']} DAAS_TOKEN_FILE={summary['token_file']}")
    print("  .venv/bin/daas session list")
    print(f"\nAll of this as JSON: {_short(BUILD / 'demo.json')}. Take it away: make clean")


def write_summary(summary: dict[str, Any]) -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    path = BUILD / "demo.json"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(summary, file, indent=2)


@dataclass(frozen=True)
class Running:
    """The service in the background: its process, and what it was started with."""

    pid: int
    started: str  # by the kernel's count: a number that was given out again is another process
    settings: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Running | None":
        """The one that is noted there, if it still runs."""
        try:
            found = cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return found if found.is_alive else None

    @classmethod
    def start(cls, chosen: Settings) -> "Running":
        BUILD.mkdir(parents=True, exist_ok=True)
        with LOG.open("ab") as log:
            child = process.start([sys.executable, "-m", "daas.cli", "serve"], log)
        found = cls(child.pid, _start_of(child.pid), _what_matters(chosen))
        path = chosen.data_dir / "serve.json"
        path.write_text(json.dumps(vars(found)))
        return found

    @property
    def is_alive(self) -> bool:
        return bool(self.started) and _start_of(self.pid) == self.started

    def stop(self) -> None:
        deadline = time.monotonic() + STOP_S
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        while self.is_alive and time.monotonic() < deadline:
            time.sleep(0.1)


def _what_matters(chosen: Settings) -> dict[str, Any]:
    """A service with other ones of these, or of older code, is not the one we want."""
    names = {"provider", "orchestrator_port", "listen"}
    if chosen.provider == "lxd":
        names |= {"lxd_pool", "lxd_bridge"}
    newest = max(path.stat().st_mtime_ns for path in Path(__file__).parents[1].rglob("*.py"))
    return {**chosen.model_dump(mode="json", include=names), "code": newest}


def _wait_until(is_up: Callable[[], bool], running: Running) -> None:
    deadline = time.monotonic() + START_S
    while not is_up():
        if not running.is_alive or time.monotonic() > deadline:
            lines = LOG.read_text(errors="replace").splitlines()[-5:]
            for line in lines:
                render.say(f"    {line}")
            raise DaasError(f"The service did not start; its log is {_short(LOG)}.")
        time.sleep(0.1)


def _is_up(api: Api) -> bool:
    with suppress(ApiAway, ValueError):
        parts = {part["name"]: part["ok"] for part in api.health()["parts"]}
        return all(parts.get(name) for name in ("database", "worker", "nodes"))
    return False


def _has_image(api: Api, chosen: Settings) -> bool:
    """LXD may have been emptied behind our back; then the image is made again."""
    if chosen.provider != "lxd":
        return True
    builds = api.all(f"/templates/{chosen.default_template}/builds")
    image = next((b["image"] for b in builds if b["status"] == "built"), None)
    with suppress(NotYet):
        return image in wiring.lxd(chosen, Vault(chosen.secrets_dir).instance).images()
    return True


def _start_of(pid: int) -> str:
    """When the process began, in ticks since boot; empty if there is none, or it is a zombie."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    return ""


def _short(path: Path) -> str:
    with suppress(ValueError):
        return str(path.relative_to(ROOT))
    return str(path)
