"""Remove machines of ours that nobody wants: what a crash, a bug or a lost row left behind.
When in doubt it reports and leaves them alone."""

import logging
from collections.abc import Mapping
from contextlib import suppress

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session as Db

from daas import events
from daas.db import now
from daas.errors import NotYet
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.jobs.models import Job
from daas.jobs.work import Work
from daas.nodes.models import Cluster
from daas.providers.base import Machine, Provider
from daas.sessions import service
from daas.sessions.models import LIVE, Installation, Session, Suspect
from daas.sessions.states import Desired, Status

EACH_S = 300.0  # unwanted in two sweeps this far apart is unwanted
RESTART_S = 5.0  # a guest that restarts is off for less
AGE_SKEW_S = 300.0  # a machine this much newer than our newest row is from a later life of ours

log = logging.getLogger(__name__)


def sweep(work: Work, providers: Mapping[str, Provider], instance: str) -> None:
    """One round over the machines of the provider that the job names."""
    kind, provider = work.job.key, providers.get(work.job.key)
    if provider is None:  # the installation uses another one now
        with work.database.transaction() as db:
            queue.settle(db, work.job, None, Lane.BULK, Priority.REFILL)
        return
    with suppress(NotYet), work.heartbeat(lambda db: True):
        # Machines first: a row is older than its machine, so a machine we list whose row we
        # then do not find is not one that is just being made.
        machines = [m for m in provider.owned() if m.tag.instance == instance]
        with work.transaction() as db:
            doomed = _doomed(db, kind, machines, instance)
            asleep = _asleep(db, kind, machines)
        _note_asleep(work, provider, asleep)
        for machine in doomed:
            if not work.stop.is_set():
                _destroy(provider, machine)
    with work.database.transaction() as db:
        again = (db.scalar(select(now())) or 0.0) + EACH_S
        queue.settle(db, work.job, again, Lane.BULK, Priority.REFILL)


def _asleep(db: Db, kind: str, machines: list[Machine]) -> dict[str, str | None]:
    """The sessions that are taken for ready while their machine is off or gone, with its node."""
    on = {m.name for m in machines if m.is_on}
    fit = (LIVE, Session.status == Status.READY, Session.desired == Desired.RUNNING)
    here = select(Session.name, Session.node).join(Cluster, Cluster.name == Session.cluster)
    rows = db.execute(here.where(*fit, Cluster.kind == kind))
    return {name: node for name, node in rows if name not in on}


def _note_asleep(work: Work, provider: Provider, asleep: dict[str, str | None]) -> None:
    """What was off in two looks was not merely restarting: it counts as stopped by its user.
    Unless its node is silent: then nobody knows."""
    if not asleep or work.stop.wait(RESTART_S):
        return
    on = {m.name for m in provider.owned() if m.is_on}
    silent = {node.name for node in provider.nodes() if not node.is_online}
    with work.transaction() as db:
        for name, node in asleep.items():
            if name not in on and node not in silent:
                service.note_stopped(db, name)


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
    if not _may_destroy(db, machines, instance):
        return []
    return [m for m in unwanted if since[m] <= now_s - EACH_S and m.name not in leased]


def _may_destroy(db: Db, machines: list[Machine], instance: str) -> bool:
    """A copied installation, or a restored backup, knows too little to destroy anything, until
    somebody who knows says so: then, and not just until its next session, it only reports."""
    us = db.scalars(select(Installation)).one()
    newest = db.scalar(select(func.max(Session.created_at))) or 0.0
    is_behind = any(m.created_at > newest + AGE_SKEW_S for m in machines)
    if (us.id != instance or is_behind) and not us.is_in_doubt:
        us.is_in_doubt = True
        why = "copied or restored: nothing is destroyed until `daas sweep --confirm`"
        events.record(db, "installation", "sure", "in doubt", "system", why)
    return not us.is_in_doubt


def confirm(db: Db, instance: str) -> None:
    """This database is the one of `instance`, whatever it looked like: sweeps destroy again."""
    db.execute(update(Installation).values(id=instance, is_in_doubt=False))
    events.record(db, "installation", "in doubt", "sure", "operator", "confirmed by hand")


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
        now_there = {(m.name, m.tag) for m in provider.owned()}
        if (machine.name, machine.tag) in now_there:  # the whole tag again, just before
            provider.destroy(machine.name, {})
    except Exception:  # the others must not wait for this one; the next sweep tries again
        log.exception("sweep: %s is still there", machine.name)
