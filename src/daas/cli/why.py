"""`daas why SESSION`: its last events in plain words, what it waits for, what happens next."""

import os
import time
from typing import Any

import typer
from sqlalchemy import select

from daas import events, installation
from daas.access.actors import Actor, Role
from daas.cli import http, narrative, render
from daas.cli.http import ApiAway
from daas.cli.session import Name
from daas.config import settings
from daas.jobs.models import Job
from daas.sessions import queries
from daas.tenants import DEFAULT

LAST = 12
ROOT = Actor("local", DEFAULT, Role.OPERATOR)  # who can read the database can read all of it
Found = tuple[dict[str, Any], list[dict[str, Any]], float | None]
app = typer.Typer()


@app.command()
def why(name: Name, as_json: render.AsJson = False) -> None:
    """Say in plain words what a desktop is doing, what it waits for and what comes next."""
    session, record, look_s = _find(name)
    lang = narrative.language(os.environ)
    story = narrative.tell(session, record[-LAST:], lang, time.time(), look_s)
    if as_json:
        words = {"id": name, "status": session["status"], "happened": story.happened}
        render.as_json({**words, "waits_for": story.waits, "next": story.next})
        return
    print(f"{name}: {session['status']}")
    for line in story.happened:
        print(f"  {line}")
    for line in [story.waits] if story.waits else []:
        print(line)
    for line in story.next:
        print(line)


def _find(name: str) -> Found:
    """By the API; from the database itself where nobody answers and it lies on this machine."""
    api = http.connect()
    try:
        session = api.get(f"/sessions/{name}")
        record = _all_events(api, name)
    except ApiAway:
        if os.environ.get("DAAS_URL") or not (settings().data_dir / "daas.db").exists():
            raise
        return _find_here(name)
    session["expires_at"] = session["expires_at"] and render.epoch_s(session["expires_at"])
    return session, [{**e, "at": render.epoch_s(e["at"])} for e in record], None


def _all_events(api: http.Api, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while page := api.get(f"/sessions/{name}/events", after=_last(found), limit=500)["items"]:
        found += page
    return found


def _find_here(name: str) -> Found:
    database = installation.open_database(settings(), threads=1)
    with database.reading() as db:
        row = queries.shown(db, ROOT, name)
        words = ("status", "desired", "waiting_for", "failure", "expires_at")
        session = {"id": name, **{word: getattr(row, word) for word in words}}
        record = events.after(db, 0, 10_000, f"session/{name}")
        which = (Job.kind == "session", Job.key == name)
        look_s = db.scalar(select(Job.run_at).where(*which, Job.leased_until == 0))
    database.dispose()
    words = ("at", "before", "after", "actor", "reason")
    return session, [{word: getattr(e, word) for word in words} for e in record], look_s


def _last(found: list[dict[str, Any]]) -> int:
    return int(found[-1]["seq"]) if found else 0
