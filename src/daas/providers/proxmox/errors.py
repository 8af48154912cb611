"""What Proxmox's refusals mean to us, however they reach us: as an answer, as the end of a task,
or inside a message of Terraform's. Proxmox gives no codes, so its sentences are read here, and
only here."""

import re
from collections.abc import Callable, Iterable

from daas.errors import (
    Congested,
    DaasError,
    NoCapacity,
    NotYet,
    NumberTaken,
    Refused,
    TemplateMissing,
    Unreachable,
)

RETRY_S = 2.0
AWAY = range(595, 600)  # of the proxy that leads from one node to another
CONGESTED = re.compile(
    r"(can't lock file|unable to|cfs-lock|lock)\b.*?got timeout|got lock (request )?timeout"
    r"|cfs-lock .* error"
    # What a call that timed out had made; the machine is removed with it, and made anew.
    r"|disk image '[^']*' already exists",
    re.I | re.S,
)
NO_QUORUM = re.compile(r"no quorum|cluster not ready|/etc/pve/[^']*'? - permission denied", re.I)
FULL = re.compile(
    r"no space left|out of space|not enough (free )?space|disk quota exceeded|insufficient free"
    r"|free space in (thin|volume)|is full\b|exceeds? .*storage",
    re.I,
)
NO_MEMORY = re.compile(r"cannot allocate memory|not enough memory|out of memory", re.I)
MISSING_RIGHT = re.compile(
    r"permission check failed(?: \((?P<path>[^)]*?)(?:, (?P<right>[A-Za-z.|]+))?\))?", re.I
)
NO_LOGIN = re.compile(
    r"no ticket|authentication failed|no such token|invalid token|token .*expired|HTTP 401"
    r"|401 (unauthorized|authentication|no ticket)|user .* (is disabled|expired)",
    re.I,
)
CERTIFICATE = re.compile(
    r"x509:|certificate[_ ]verify[_ ]failed|failed to verify certificate", re.I
)
NO_ROUTE = re.compile(
    r"connection (refused|reset|timed out)|no route to host|i/o timeout|network is unreachable"
    r"|hostname lookup|HTTP 59[5-9]|\b59[5-9]\b|dial tcp|unexpected EOF|TLS handshake timeout",
    re.I,
)
TAKEN = re.compile(
    r"config file already exists|VM \d+ already exists|already in use on node"
    r"|vmId: \d+ already in use",
    re.I,
)
NO_VM = re.compile(r"configuration file '[^']*/(?P<number>\d+)\.conf' does not exist", re.I)
NO_SOURCE = re.compile(
    r"(?:unable to find configuration file for VM |guest with ID ')(?P<number>\d+)", re.I
)
LOCKED = re.compile(r"VM is locked \((?P<lock>[^)]*)\)", re.I)
# Seen under many parallel destroys; nothing is wrong, but the call was not carried out.
GLITCH = re.compile(r"got no worker upid|unable to open file - no such file", re.I)
NO_AGENT = re.compile(r"guest agent is not running", re.I)
AGENT_OFF = re.compile(r"no qemu guest agent configured", re.I)
NOT_RUNNING = re.compile(r"VM \d+ (is )?not running", re.I)
IN_USE = re.compile(r"still in use by linked clone|base volume .* in use", re.I)


class Absent(Refused):
    """Proxmox knows no such machine, volume or task."""


class NumberInUse(NumberTaken):
    """The VMID was somebody else's when we came to use it."""


class Locked(NotYet):
    """Something works on that machine, or died doing so; `lock` says what it was."""

    def __init__(self, after_s: float, why: str, lock: str = ""):
        super().__init__(after_s, why)
        self.lock = lock


class Glitch(NotYet):
    """The call was not carried out, for no reason; look, then do it again."""


class AgentAway(NotYet):
    """The guest's agent does not answer yet."""


class NotRunning(Refused):
    """The machine is off."""


class InUse(Refused):
    """Clones need it."""


class Unexplained(Refused):
    """A sentence that we do not know."""


def refusal(status: int, said: str, what: str, details: object = None) -> Exception:
    """Return the error that an answer of status 400 and above amounts to. `what` is the call."""
    said = " ".join(said.split()) or f"status {status}"
    if status == 401:
        return no_login(said)
    if status == 403:
        return missing_right(said, what)
    if status in AWAY:
        return Unreachable(RETRY_S, f"{_node(what)} to answer (Proxmox said: {status} {said})")
    if status < 500 and status != 404:
        return Refused(f"Proxmox said: {said} {_listed(details)} ({what})")
    return meaning(said, what)


def meaning(said: str, what: str = "") -> Exception:
    """Return what a sentence of Proxmox's amounts to."""
    for pattern, make in MEANINGS:
        if match := pattern.search(said):
            return make(said, match)
    return Unexplained(f"Proxmox said: {short(said)}" + (f" ({what})" if what else ""))


def is_known(said: str) -> bool:
    """Is it one of the sentences that we can act on?"""
    return any(pattern.search(said) for pattern, _ in MEANINGS)


def is_vague(said: str) -> bool:
    """Is a privilege missing, and not said which?"""
    match = MISSING_RIGHT.search(said)
    return match is not None and match["path"] is None


def no_login(said: str) -> DaasError:
    return Refused(
        "The API token has expired, is unknown, or its secret is wrong: make a new one "
        "(pveum user token add) and set DAAS_PROXMOX_TOKEN_ID and DAAS_PROXMOX_TOKEN_SECRET. "
        f"Proxmox said: {said}"
    )


def missing_right(said: str, what: str = "") -> DaasError:
    match = MISSING_RIGHT.search(said)
    path, right = (match["path"], match["right"]) if match else (None, None)
    if not right:
        asked = f" in {what}" if what else ""
        return Refused(
            f"The API token may not do that{asked}: run `daas doctor`, which lists the "
            f"privileges it needs. Proxmox said: {said}"
        )
    return Refused(
        f"The API token lacks the privilege {right.replace('|', ' or ')} on {path}: give it a "
        f"role that has it (pveum acl modify {path} -token … -role …). Proxmox said: {said}"
    )


def wrong_certificate(where: str, said: str) -> DaasError:
    return Refused(
        f"The certificate of {where} cannot be verified. If it was renewed, set "
        "DAAS_PROXMOX_CA_FILE to the cluster's authority (/etc/pve/pve-root-ca.pem of a node), "
        "and check that the URL has a name that is in the certificate; if nobody changed it, "
        f"somebody may stand in between. ({short(said)})"
    )


def _full(said: str, _: re.Match[str]) -> Exception:
    return Refused(
        "The storage is full: remove desktops or volumes that nobody needs, or set "
        f"DAAS_PROXMOX_STORAGE to another one. Proxmox said: {short(said)}"
    )


def _no_source(said: str, match: re.Match[str]) -> Exception:
    return TemplateMissing(
        f"The template (VM {match['number']}) is gone; build it again: daas template build NAME"
    )


def _locked(said: str, match: re.Match[str]) -> Exception:
    return Locked(RETRY_S, f"the machine, which is locked ({match['lock']})", match["lock"])


def _said(said: str) -> str:
    return f"Proxmox said: {short(said)}"


Make = Callable[[str, re.Match[str]], Exception]
# The first that is found counts: a lock that was not to be had is also in longer sentences.
MEANINGS: tuple[tuple[re.Pattern[str], Make], ...] = (
    (CERTIFICATE, lambda said, _: wrong_certificate("Proxmox's API", said)),
    (CONGESTED, lambda said, _: Congested(RETRY_S, f"a lock of Proxmox ({short(said)})")),
    (NO_QUORUM, lambda said, _: Unreachable(RETRY_S, f"the cluster's quorum ({short(said)})")),
    (FULL, _full),
    (NO_MEMORY, lambda said, _: NoCapacity(30.0, f"memory on the node ({short(said)})")),
    (MISSING_RIGHT, lambda said, _: missing_right(short(said))),
    (TAKEN, lambda said, _: NumberInUse(_said(said))),
    (NO_SOURCE, _no_source),
    (NO_VM, lambda said, _: Absent(_said(said))),
    (LOCKED, _locked),
    (GLITCH, lambda said, _: Glitch(0.5, f"Proxmox ({short(said)})")),
    (NO_AGENT, lambda said, _: AgentAway(1.0, "the guest agent")),
    (
        AGENT_OFF,
        lambda said, _: Refused(
            "The template has its guest agent switched off: qm set VMID --agent 1, and build "
            "desktops anew."
        ),
    ),
    (NOT_RUNNING, lambda said, _: NotRunning(_said(said))),
    (IN_USE, lambda said, _: InUse(_said(said))),
    (NO_LOGIN, lambda said, _: no_login(short(said))),
    (NO_ROUTE, lambda said, _: Unreachable(RETRY_S, f"Proxmox to answer ({short(said)})")),
)


def short(said: str) -> str:
    return " ".join(said.split())[:300]


def _node(what: str) -> str:
    found = re.search(r"nodes/([^/ ]+)", what)
    return f"node {found[1]}" if found else "the node"


def _listed(details: object) -> str:
    items: Iterable[tuple[object, object]] = details.items() if isinstance(details, dict) else ()
    return "; ".join(f"{key}: {str(value).strip()}" for key, value in items)
