"""The work that finishes each status. A step may be run again after a crash, so each one
makes something true rather than doing something once. It returns the columns it learned."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import update

from daas import crypto, events
from daas.errors import NoCapacity, NotOurs, NumberTaken, StepFailed, Unreachable
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.jobs.work import Work
from daas.nodes import numbers, reservations
from daas.nodes.admission import Admission, Door, Gates
from daas.nodes.placement import Need, Policy
from daas.nodes.reservations import Room
from daas.providers.base import Provider, Size, Spec, State, Tag
from daas.sessions import personal
from daas.sessions.models import Session
from daas.sessions.personal import KeyStock, Personal
from daas.sessions.states import Status

NUMBERS_TRIED = 10  # of machines, in one step: more that are taken is no accident
AWAY_S = 60.0
BOOT_WAIT_S = 20.0  # one look at a booting guest; between two the thread may serve others

Learned = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tools:
    """What steps work with, chosen once in wiring.py. `certificate_of` tells the SHA-256 of the
    certificate that a host:port shows to an RDP client; None where guests are not real."""

    providers: Mapping[str, Provider]
    vault: crypto.Vault
    stock: KeyStock
    certificate_of: Callable[[str, float], str | None]
    admission: Admission = field(default_factory=Gates)


@dataclass(frozen=True)
class Step:
    """What a step has to work with; the session is a copy, as it was when the step began."""

    work: Work
    session: Session
    provider: Provider
    tools: Tools
    note: Callable[[str], None]  # a line for the session's log

    def save(self, state: State) -> None:
        """Keep the provider's state, even if the worker dies in the next moment."""
        mine = update(Session).where(Session.id == self.session.id)
        with self.work.transaction() as db:
            db.execute(mine.values(provider_state=state))


def await_node(step: Step) -> None:
    """Unreachable if its node is known to be away: a call that runs into its timeout would keep
    a thread from those whose nodes answer. Who waits is woken when the node is back."""
    s = step.session
    with step.work.database.reading() as db:
        is_away = reservations.outage(db, s.cluster, s.node) is not None
    if is_away:
        raise Unreachable(AWAY_S, f"node {s.node} to answer")


def place(step: Step) -> Learned:
    """Room and an address are kept for it; what will be its own is made."""
    s, settings = step.session, step.work.settings
    need = Need(s.reserve_mib, s.cpus, s.image, s.tenant)
    policy = Policy(settings.cpu_overcommit, settings.spread_tenants)
    with step.work.transaction() as db:
        room = reservations.reserve(db, s.name, s.cluster, need, policy)
        behind = reservations.next_in_line(db, s.cluster, 1)
    if isinstance(room, NoCapacity):
        raise room
    for name in behind:  # it is first now: there may be room for it, too
        _wake(step, name)
    step.note(f"placed on {room.node}" + (f" as {room.address}" if room.address else ""))
    learned: Learned = {"node": room.node}
    if s.personal is None:
        learned |= _identity(step)
    return learned


def provision(step: Step) -> Learned:
    s = step.session
    with step.work.database.reading() as db:
        room = reservations.kept(db, s.name)
    if room is None or s.personal is None:
        raise StepFailed("It lost its place on the node; request a new one.")
    door = Door(s.cluster, room.storage, not s.provider_state) if room.storage else None
    with step.tools.admission.inside(step.work, door) as leave:
        state = _ensure(step, room, leave)
    step.note(f"machine made from {s.image}")
    return {"provider_state": state}


def _ensure(step: Step, room: Room, on_disks: Callable[[], None]) -> State:
    """The machine is there, under the first of our numbers that nobody else has."""
    s, newest = step.session, [step.session.provider_state]

    def save(state: State) -> None:
        newest.append(state)
        step.save(state)

    for _ in range(NUMBERS_TRIED):
        try:
            spec = replace(_spec(step, room), on_disks=on_disks)
            return step.provider.ensure(s.name, spec, newest[-1], save, step.note)
        except NumberTaken as taken:
            room = replace(room, number=_another_number(step, taken))
    raise StepFailed(
        f"{NUMBERS_TRIED} numbers in a row belong to machines of others; "
        "give us a range of our own (DAAS_PROXMOX_VMIDS)."
    )


def _spec(step: Step, room: Room) -> Spec:
    s = step.session
    return Spec(
        node=room.node,
        image=s.image,
        size=Size(s.cpus, s.memory_mib, s.disk_gib),
        tag=Tag(step.tools.vault.instance, s.name, s.nonce),
        address=room.address,
        gateway=room.gateway,
        number=room.number,
        personal=_files(step),
        options=s.options,
    )


def _another_number(step: Step, taken: NumberTaken) -> int | None:
    """The number it had is remembered as somebody else's; it leases another."""
    s = step.session
    with step.work.transaction() as db:
        cluster = reservations.lock(db, s.cluster)
        if cluster is None or (old := numbers.of(db, s.name)) is None:
            raise taken
        numbers.give_up(db, s.name)
        words = ("leased", "foreign", "system", str(taken))
        events.record(db, f"number/{s.cluster}/{old}", *words)
        number = numbers.lease(db, cluster, s.name)
    if isinstance(number, NoCapacity):
        raise number
    step.note(f"{old} is somebody else's number; taking {number}")
    return number


def rejoin(step: Step) -> Learned:
    """Its node answers again: the machine runs and is reached as before. A node that was down
    starts none of them by itself."""
    step.provider.power(step.session.provider_state, on=True)
    return wait_for_boot(step)


def wait_for_boot(step: Step) -> Learned:
    s = step.session
    endpoints = step.provider.endpoints(s.provider_state, BOOT_WAIT_S, _files(step))
    if s.options.get("personalize") == "none":  # then it shows a certificate of its own
        step.note(f"RDP answers at {endpoints['rdp']}")
        return {"endpoints": endpoints}
    shown = step.tools.certificate_of(endpoints.get("direct", endpoints["rdp"]), BOOT_WAIT_S)
    if shown is not None and s.fingerprint and shown != s.fingerprint:
        raise StepFailed(
            f"Another machine answers at {endpoints['rdp']}: its certificate is not this "
            "session's. Two machines may have one address; see `daas doctor`."
        )
    step.note(f"RDP answers at {endpoints['rdp']}")
    return {"endpoints": endpoints}


def personalize(step: Step) -> Learned:
    """Nothing is left to do: the RDP port opened after the baked first-boot unit was through,
    and it showed this session's certificate. Templates with roles of their own come here."""
    return {}


def assign(step: Step) -> Learned:
    """The guest knows its owner. A cold desktop learnt it at first boot; a claimed one now."""
    s = step.session
    is_told = s.options.get("personalize") != "none"  # by the program that our templates have
    if is_told and s.owner and s.pool and s.local_user and s.password:
        password = step.tools.vault.open(s.password)
        line = f"{s.local_user}:{crypto.crypt_hash(password)}\n"
        step.provider.run(s.provider_state, ["/usr/local/lib/daas/guest", "assign"], line)
        step.note(f"belongs to {s.owner}")
    return {}


def power_off(step: Step) -> Learned:
    step.provider.power(step.session.provider_state, on=False)
    step.note("stopped")
    return {"endpoints": None}


def power_on(step: Step) -> Learned:
    step.provider.power(step.session.provider_state, on=True)
    step.note("started")
    return {}


def destroy(step: Step) -> Learned:
    """Nobody reaches it, then it is gone. A machine of that name that is not ours stays."""
    s = step.session
    try:
        step.provider.destroy(s.name, s.provider_state)
    except NotOurs as error:
        log.warning("left alone: %s", error)
        with step.work.transaction() as db:
            words = ("ours", "left alone", "system", str(error))
            events.record(db, f"machine/{s.name}", *words, s.tenant)
    return {"endpoints": None, "provider_state": {}, "node": None}


def _files(step: Step) -> dict[str, bytes]:
    """What the guest is to find in its personal folder."""
    if not step.session.personal:
        return {}
    kept = Personal.from_json(step.tools.vault.open(step.session.personal))
    return {name: text.encode() for name, text in kept.files.items()}


def _wake(step: Step, session: str) -> None:
    """In a transaction of its own: jobs of two sessions in one could deadlock with `_forget`."""
    with step.work.database.transaction() as db:
        queue.wake(db, "session", session, Lane.LOOK, Priority.PERSON)


def _identity(step: Step) -> Learned:
    s, vault = step.session, step.tools.vault
    password = vault.open(s.password) if s.password else crypto.password()
    made = personal.make(s.name, s.local_user, password, step.tools.stock)
    learned = {"personal": vault.seal(made.to_json()), "fingerprint": made.fingerprint}
    if s.local_user and not s.password:
        learned["password"] = vault.seal(password)
    return learned


STEPS: dict[Status, Callable[[Step], Learned]] = {
    Status.REQUESTED: place,
    Status.PROVISIONING: provision,
    Status.BOOTING: wait_for_boot,
    Status.PERSONALIZING: personalize,
    Status.ASSIGNING: assign,
    Status.UNREACHABLE: rejoin,
    Status.STOPPING: power_off,
    Status.STARTING: power_on,
    Status.DELETING: destroy,
}
