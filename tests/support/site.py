"""A site: an installation on SQLite with the simulated provider and a worker at work, the people
in it with their tokens, and the app; or the app behind a real server on a loopback port."""

import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from daas import asgi, installation, tenants, wiring
from daas.access import tokens
from daas.access.actors import Actor, Role
from daas.api import create_app
from daas.api.openapi import Api
from daas.config import Settings
from daas.crypto import Vault
from daas.db import Database
from daas.templates import service as templates
from daas.worker import Worker
from support.waiting import until
from support.world import settings as make_settings

DESKTOP: dict[str, Any] = {
    "name": "desk",
    "base": {"kind": "mmdebstrap", "suite": "bookworm"},
    "sizes": {
        "small": {"cpus": 1, "memory_mib": 256, "disk_gib": 4, "reserve_mib": 16},
        "huge": {"cpus": 1, "memory_mib": 1_000_000, "disk_gib": 4},
    },
    "default_size": "small",
}
PEOPLE = {
    "ada": Actor("ada", "acme"),
    "ben": Actor("ben", "acme"),
    "boss": Actor("boss", "acme", Role.ADMIN),
    "eve": Actor("eve", "evil"),
    "mallory": Actor("mallory", "evil", Role.ADMIN),
    "op": Actor("op", "default", Role.OPERATOR),
}


@dataclass
class Site:
    settings: Settings
    database: Database
    api: Api
    worker: Worker
    tokens: dict[str, str] = field(default_factory=dict)

    def headers(self, who: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}

    def client(self) -> FlaskClient:
        return self.api.test_client()

    def call(
        self, who: str | None, method: str, path: str, *, headers: Any = None, **options: Any
    ) -> TestResponse:
        headers = {**self.headers(who), **(headers or {})}
        return self.client().open(path, method=method, headers=headers, **options)

    def get(self, who: str | None, path: str, **options: Any) -> TestResponse:
        return self.call(who, "GET", path, **options)

    def post(self, who: str | None, path: str, body: Any = None, **options: Any) -> TestResponse:
        options = options if body is None else {**options, "json": body}
        return self.call(who, "POST", path, **options)

    def desktop(self, who: str = "ada", **body: Any) -> str:
        """A ready one."""
        wait = {"Prefer": "wait=20"}
        made = self.post(who, "/api/v1/sessions", body, headers=wait)
        assert made.status_code == 200 and made.json["status"] == "ready", made.text
        return str(made.json["id"])

    def is_status(self, who: str, name: str, status: str) -> bool:
        return bool(self.get(who, f"/api/v1/sessions/{name}").json["status"] == status)

    def count(self) -> int:
        """Sessions there ever were."""
        every = "&".join(f"status={s}" for s in ("deleted", "ready", "failed", "requested"))
        return len(self.get("op", f"/api/v1/sessions?limit=200&{every}").json["items"])


def make_site(folder: Path, app_options: Any = None, **values: Any) -> Site:
    given = {
        "data_dir": folder,
        "provider": "simulated",
        "templates_dir": folder / "none",
        "default_template": "desk",
        "simulated_boot_s": 0,
        "max_concurrent_sessions": 100_000,
        "machine_threads": 4,
        **values,
    }
    settings = make_settings(**given)
    installation.init(settings)
    database = installation.open_database(settings, 40)
    vault = Vault(settings.secrets_dir)
    handlers = wiring.handlers(wiring.tools(settings, vault), settings)
    worker = Worker(database, handlers, settings)
    api = create_app(settings, database, **(app_options or {}))
    site = Site(settings, database, api, worker)
    _furnish(site)
    return site


def _furnish(site: Site) -> None:
    with site.database.transaction() as db:
        for tenant in ("acme", "evil"):
            tenants.make(db, tenant)
        for name, who in PEOPLE.items():
            _, site.tokens[name] = tokens.create(db, name, who.tenant, who.role, "test")
        templates.write(db, "test", DESKTOP)
        templates.build(db, PEOPLE["op"], "desk")
    site.worker.start()
    until(lambda: _is_built(site))


def _is_built(site: Site) -> bool:
    with site.database.reading() as db:
        return [b.status for b in templates.builds_of(db, "desk")] == ["built"]


@dataclass
class Live:
    """The site behind uvicorn."""

    site: Site
    url: str
    server: asgi.Server
    app: Any

    def client(self, who: str | None = "ada") -> httpx.Client:
        headers = self.site.headers(who)
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, trust_env=False)

    def listeners(self) -> int:
        return len(self.app.state.hub.listeners())


def serve(site: Site, **options: Any) -> tuple[Live, threading.Thread]:
    app = asgi.build(site.settings, site.database, **options)
    port = _free_port()
    server = asgi.server(app, "127.0.0.1", port)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    return Live(site, f"http://127.0.0.1:{port}", server, app), thread


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
