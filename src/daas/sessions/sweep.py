"""Remove machines of ours that nobody wants: what a crash, a bug or a lost row left behind.
When in doubt it reports and leaves them alone."""

import logging
from collections.abc import Mapping
from contextlib import suppress

from sqlalchemy import delete, select
from sqlalchemy.orm import Session as Db

from daas import events
from daas.db import now
from daas.errors import NotYet
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.jobs.models import Job
from daas.jobs.work import Work
from daas.providers.base import Machine, Provider
from daas.sessions.models import LIVE, Installation, Session, Suspect

EACH_S = 300.0  # unwanted in two sweeps this far apart is unwanted

log = logging.getLogger(__name__)


def sweep(work: Work, providers: Mapping[str, Provider], instance: str) -> None:
    """One round over the machines of the provider that the job names."""
    kind, provider = work.job.key, providers[work.job.key]
    with suppress(NotYet), work.heartbeat(lambda db: True):
        # Machines first: a row is older than its machine, so a machine we list whose row we
        # then do not find is not one that is just being made.
        machines = [m for m in provider.owned() if m.tag.instance == instance]
        with work.transaction() as db:
            doomed = _doomed(db, kind, machines, instance)
        for machine in doomed:
            if not work.stop.is_set():
                _destroy(provider, machine)
    with work.database.transaction() as db:
        again = (db.scalar(select(now())) or 0.0) + EACH_S
        queue.settle(db, work.job, again, Lane.BULK, Priority.REFILL)


def _doomed(db: Db, kind: str, machines: list[Machine], instance: str) -> list[Machine]:
    now_s = db.scalar(select(now())) or 0.0
    names = [m.name for m in machines]
    live = set(db.scalars(select(Session.name).where(Session.name.in_(names), LIVE)))
    held = (Job.kind == "session", Job.key.in_(names), Job.leased_until > now_s)
    leased = set(db.scalars(select(Job.key).where(*held)))
    # One that was renamed by hand is not what its tag says: a person looks at that.
    unwanted = [m for m in machines if m.name not in live and m.tag.session not in live]
    since = _suspect(db, kind, unwanted, now_s)
    unwanted = [m for m in unwanted if m.name == m.tag.session]
    if db.scalar(select(Installation.id)) != instance:
        return []  # a copied installation or a restored backup knows too little to destroy
    return [m for m in unwanted if since[m] <= now_s - EACH_S and m.name not in leased]


def _suspect(db: Db, kind: str, unwanted: list[Machine], now_s: float) -> dict[Machine, float]:
    """Return since when each has been unwanted; forget those that no longer are."""
    mine = Suspect.kind == kind
    known = {(s.machine, s.nonce): s.since for s in db.scalars(select(Suspect).where(mine))}
    db.execute(delete(Suspect).where(mine))
    since = {m: known.get((m.name, m.tag.nonce), now_s) for m in unwanted}
    for m, at in since.items():
        db.add(Suspect(kind=kind, machine=m.name, nonce=m.tag.nonce, since=at))
        if (m.name, m.tag.nonce) not in known:
            is_renamed = m.name != m.tag.session
            why = f"it was {m.tag.session}; left alone" if is_renamed else "no session wants it"
            words = ("renamed" if is_renamed else "unwanted", "system", why)
            events.record(db, f"machine/{m.name}", "", *words)
    return since


def _destroy(provider: Provider, machine: Machine) -> None:
    try:
        if machine in provider.owned():  # the whole tag again, just before
            provider.destroy(machine.name, {})
    except Exception:  # the others must not wait for this one; the next sweep tries again
        log.exception("sweep: %s is still there", machine.name)
