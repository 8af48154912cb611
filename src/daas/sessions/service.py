"""What people and policies can ask of a session. Each verb is one transaction that changes
what is *desired* and wakes the reconciler; none of them touches a machine."""

import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session as Db

from daas import events, tenants
from daas.access.actors import Actor
from daas.crypto import Vault
from daas.db import now, upsert
from daas.errors import (
    BadRequest,
    Forbidden,
    KeyReused,
    NoRoom,
    NotFound,
    QuotaExceeded,
    WrongState,
)
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.nodes import reservations
from daas.nodes.placement import DEFAULT, Need, Policy
from daas.sessions.models import LIVE, IdempotencyKey, Session
from daas.sessions.states import COMING, DEADLINE_S, Desired, Status, urgency
from daas.templates.service import Recipe

BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
KEPT = (  # of a session by the one that takes its place
    "tenant",
    "owner",
    "created_by",
    "cluster",
    "template",
    "template_version",
    "image",
    "size",
    "cpus",
    "memory_mib",
    "disk_gib",
    "reserve_mib",
    "options",
    "expires_at",
    "local_user",
    "asked_user",
    "password",
)
UNOWNED = (Session.owner.is_(None), LIVE)


@dataclass(frozen=True)
class Limits:
    """What policy allows: `max_sessions` where the tenant has no limit of its own."""

    max_sessions: int = 10
    max_life_s: float | None = None
    refuses_when_full: bool = False
    placement: Policy = DEFAULT


@dataclass(frozen=True)
class Wish:
    """What somebody asks for. `password` is for `local_user`; without one we make one up."""

    recipe: Recipe
    owner: str
    local_user: str | None = None
    asked_user: str | None = None
    password: str | None = None
    life_s: float | None = None
    reuse: bool = False
    pool: str | None = None
    key: str | None = None  # Idempotency-Key
    digest: str = ""  # of the request that the key stands for


def request(db: Db, actor: Actor, wish: Wish, limits: Limits, vault: Vault) -> tuple[Session, bool]:
    """A desktop for the wish is there or on its way; return it and whether it is a new one: not
    if the same key asked before, or if `reuse` found a running one."""
    tenant = tenants.lock(db, actor.tenant)
    if not actor.may_act_for(wish.owner, actor.tenant):
        raise Forbidden("You can request a desktop for yourself only.", "owner")
    if again := _asked_before(db, actor, wish) or (wish.reuse and _running(db, actor, wish)):
        return again, False
    _check_quota(db, tenant, limits)
    _check_room(db, wish, limits, tenant.name)
    life = [s for s in (wish.life_s, limits.max_life_s) if s is not None]
    expires_at = (_now(db) + min(life)) if life else None
    session = wish.pool and _claim_warm(db, actor, wish, expires_at)
    session = session or _insert_wish(db, actor, wish, expires_at, vault)
    if wish.key:
        kept = {"tenant": actor.tenant, "actor": actor.name, "key": wish.key}
        row = IdempotencyKey(**kept, digest=wish.digest, session=session.name, at=_now(db))
        db.add(row)
    return session, True


def refill(db: Db, pool: str, tenant: str, recipe: Recipe, is_shared: bool = False) -> Session:
    """Start making a desktop without an owner; it counts against the pool, not the quota."""
    columns = {**_from_recipe(recipe), "tenant": tenant, "is_shared": is_shared}
    actor = f"pool/{pool}"
    return _insert(db, actor, pool=pool, owner=None, created_by=actor, **columns)


def may_be_replaced(session: Session) -> bool:
    """Is it somebody's, wanted, and on its way or up?"""
    is_up = session.status in (*COMING, Status.UNREACHABLE, Status.STARTING)
    return is_up and session.owner is not None and session.desired is Desired.RUNNING


def replace(db: Db, old: Session, why: str) -> Session:
    """Its owner gets another desktop like it, and `old` is to go: whenever its node answers
    again, its machine is destroyed before anything else is done with it."""
    columns = {name: getattr(old, name) for name in KEPT}
    # A password that its owner chose was forgotten when the desktop became ready.
    columns["is_password_given"] = old.is_password_given and old.password is not None
    new = _insert(db, "system", f"in place of {old.name}: {why}", **columns)
    old.desired, old.replaced_by = Desired.DELETED, new.name
    old.version += 1
    note = f"replaced by {new.name}: {why}"
    events.record(db, _subject(old), old.status, old.status, "system", note, old.tenant)
    keys = update(IdempotencyKey).where(IdempotencyKey.session == old.name)
    db.execute(keys.values(session=new.name))
    return new


def want(db: Db, actor: Actor, name: str, desired: Desired) -> Session:
    """Record what the actor wants next: running, stopped or deleted. Again changes nothing."""
    session = mine(db, actor, name)
    if session.desired is desired:
        return session
    if session.desired is Desired.DELETED or session.status is Status.DELETED:
        raise WrongState("This session is being deleted; request a new one.")
    if session.status is Status.FAILED and desired is not Desired.DELETED:
        raise WrongState("This session failed; delete it and request a new one.")
    session.desired = desired
    _note_and_wake(db, session, session.status, actor.name, f"wants {desired}")
    return session


def extend(db: Db, actor: Actor, name: str, life_s: float, limits: Limits) -> Session:
    """Let the session end by itself `life_s` from now, within what policy allows in all."""
    session = mine(db, actor, name)
    if session.desired is Desired.DELETED or session.status in (Status.DELETED, Status.FAILED):
        raise WrongState(f"This session is {session.status}; it cannot be extended.")
    end = _now(db) + life_s
    if limits.max_life_s is not None and not actor.is_admin:
        end = min(end, session.created_at + limits.max_life_s)
    session.expires_at = end
    _note_and_wake(db, session, session.status, actor.name, "extended")
    return session


def note_stopped(db: Db, name: str) -> None:
    """A machine that stopped by itself (its user shut it down) is to stay so until somebody
    wants it running again."""
    session = db.scalar(select(Session).where(Session.name == name).with_for_update())
    if session and session.status is Status.READY and session.desired is Desired.RUNNING:
        session.desired = Desired.STOPPED
        _note_and_wake(db, session, session.status, "guest", "its machine stopped by itself")


def discard(db: Db, name: str, reason: str) -> bool:
    """Have a desktop deleted if it is still nobody's; return whether it was."""
    goes = update(Session).where(Session.name == name, *UNOWNED)
    gone = goes.values(desired=Desired.DELETED, version=Session.version + 1).returning(Session)
    session = db.scalar(gone, execution_options=queue.DIRECT)
    if session:
        _note_and_wake(db, session, session.status, f"pool/{session.pool}", reason)
    return session is not None


def mine(db: Db, actor: Actor, name: str) -> Session:
    """The session, locked, if the actor may act on it; NotFound or Forbidden otherwise."""
    session = db.scalar(select(Session).where(Session.name == name).with_for_update())
    return allowed(session, actor, name)


def allowed(session: Session | None, actor: Actor, name: str) -> Session:
    if session is None or not actor.sees(session.tenant):
        raise NotFound(f"There is no session {name}.")
    if not actor.may_act_for(session.owner, session.tenant):
        raise Forbidden(f"Session {name} is not yours.")
    return session


def credential(db: Db, actor: Actor, name: str, vault: Vault) -> tuple[str, str]:
    """User and password of a desktop whose password we made up, for its owner and for whoever
    asked for it in their name; no other administrator. Each look is recorded."""
    session = mine(db, actor, name)
    if actor.name not in (session.owner, session.created_by):
        raise Forbidden(f"The password of {name} is for its owner.")
    if session.desired is Desired.DELETED:
        raise WrongState("This session is being deleted; request a new one.")
    if session.password is None or session.local_user is None or session.is_password_given:
        raise WrongState("This session has no password of our making: use the one you know.")
    note = "read its one-time password"
    events.record(db, _subject(session), "", session.status, actor.name, note, session.tenant)
    return session.local_user, vault.open(session.password)


def _asked_before(db: Db, actor: Actor, wish: Wish) -> Session | None:
    if not wish.key:
        return None
    kept = db.get(IdempotencyKey, (actor.tenant, actor.name, wish.key))
    if kept is None:
        return None
    if kept.digest != wish.digest:
        raise KeyReused("This Idempotency-Key was used for another request; take a new one.")
    return db.scalars(select(Session).where(Session.name == kept.session)).one()


def _running(db: Db, actor: Actor, wish: Wish) -> Session | None:
    """The owner's desktop of that template that is up or on its way, the newest first."""
    theirs = (Session.tenant == actor.tenant, Session.owner == wish.owner, LIVE)
    fit = (
        Session.template == wish.recipe.template,
        Session.desired == Desired.RUNNING,
        Session.status != Status.FAILED,
    )
    return db.scalar(select(Session).where(*theirs, *fit).order_by(Session.id.desc()).limit(1))


def _check_quota(db: Db, tenant: tenants.Tenant, limits: Limits) -> None:
    limit = limits.max_sessions if tenant.max_sessions is None else tenant.max_sessions
    owned = (Session.tenant == tenant.name, Session.owner.is_not(None), LIVE)
    # One that was replaced is counted by its successor: that its node is lost is not their doing.
    counted = (*owned, Session.status != Status.FAILED, Session.replaced_by.is_(None))
    if (db.scalar(select(func.count()).select_from(Session).where(*counted)) or 0) >= limit:
        raise QuotaExceeded(
            f"{tenant.name} already has {limit} sessions, its limit; delete one first."
        )


def _check_room(db: Db, wish: Wish, limits: Limits, tenant: str) -> None:
    recipe, size = wish.recipe, wish.recipe.size
    need = Need(size.reserve_mib, size.cpus, recipe.image, tenant)
    if limits.refuses_when_full and not reservations.has_room(
        db, recipe.cluster, need, limits.placement
    ):
        raise NoRoom("No node has room for this desktop now; try again in a while.")


def _claim_warm(db: Db, actor: Actor, wish: Wish, expires_at: float | None) -> Session | None:
    """Take the oldest warm desktop of the pool that this tenant may have, in one guarded
    update."""
    theirs = or_(Session.tenant == actor.tenant, Session.is_shared)
    fit = (Session.status == Status.READY, Session.desired == Desired.RUNNING, theirs)
    warm = select(Session.id).where(Session.pool == wish.pool, *UNOWNED, *fit).order_by(Session.id)
    values: dict[str, Any] = {
        "owner": wish.owner,
        "tenant": actor.tenant,
        "created_by": actor.name,
        "expires_at": expires_at,
        "status": Status.ASSIGNING,
        "status_since": now(),
        "deadline": now() + DEADLINE_S[Status.ASSIGNING],
        "version": Session.version + 1,
    }
    # Not SKIP LOCKED: a row that is locked may only be looked at. Once the lock is had the row
    # is checked again, and if another claim got it, the next one is taken.
    first = warm.limit(1).with_for_update().scalar_subquery()
    taken = update(Session).where(Session.id == first, *UNOWNED, *fit).values(values)
    session = db.scalar(taken.returning(Session), execution_options=queue.DIRECT)
    if session and wish.pool:
        _note_and_wake(db, session, Status.READY, actor.name, "claimed from pool")
        queue.wake(db, "pool", wish.pool, Lane.LOOK, Priority.REFILL)
    return session


def _insert_wish(
    db: Db, actor: Actor, wish: Wish, expires_at: float | None, vault: Vault
) -> Session:
    if wish.password and not wish.local_user:
        raise BadRequest("A password needs the local user it is for.", "password")
    return _insert(
        db,
        actor.name,
        **_from_recipe(wish.recipe),
        tenant=actor.tenant,
        owner=wish.owner,
        created_by=actor.name,
        expires_at=expires_at,
        local_user=wish.local_user,
        asked_user=wish.asked_user,
        is_password_given=wish.password is not None,
        password=vault.seal(wish.password) if wish.password else None,
    )


def _from_recipe(recipe: Recipe) -> dict[str, Any]:
    size = recipe.size
    return {
        "cluster": recipe.cluster,
        "template": recipe.template,
        "template_version": recipe.version,
        "image": recipe.image,
        "size": recipe.size_name,
        "cpus": size.cpus,
        "memory_mib": size.memory_mib,
        "disk_gib": size.disk_gib,
        "reserve_mib": size.reserve_mib,
        "options": dict(recipe.options),
    }


def _insert(db: Db, actor: str, reason: str = "requested", **columns: Any) -> Session:
    since = {
        "created_at": now(),
        "status_since": now(),
        "deadline": now() + DEADLINE_S[Status.REQUESTED],
    }
    session: Session | None = None
    while session is None:  # one name in 32**6 is taken already
        name = "desktop-" + "".join(secrets.choice(BASE32) for _ in range(6))
        row = upsert(db, Session).values(name=name, **since, **columns)
        unless = row.on_conflict_do_nothing(index_elements=["name"]).returning(Session)
        session = db.scalar(unless)
    _note_and_wake(db, session, "", actor, reason)
    return session


def _note_and_wake(db: Db, session: Session, before: str, actor: str, reason: str) -> None:
    session.version += 1
    subject, tenant = _subject(session), session.tenant
    events.record(db, subject, before, session.status, actor, reason, tenant)
    look = urgency(session.status, session.desired, session.owner)
    # Whatever comes next, it begins with a look: it must not queue behind slow work.
    queue.wake(db, "session", session.name, Lane.LOOK, look[1])


def _subject(session: Session) -> str:
    return f"session/{session.name}"


def _now(db: Db) -> float:
    return db.scalar(select(now())) or 0.0
