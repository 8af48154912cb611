"""Whether an answer is the recorded one: values, but names given anew and counters by their shape.

`Names` remembers which recorded UPID, MAC, address or digest stands for which simulated one. A
name must stand for the same one for ever, in answers as in later requests.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pve_simulator.replay.recording import UPID

HEX = "[0-9A-Fa-f]"
TOKENS = {
    "upid": UPID.pattern,
    "fingerprint": rf"(?:{HEX}{{2}}:){{31}}{HEX}{{2}}",
    "mac": rf"(?:{HEX}{{2}}:){{5}}{HEX}{{2}}",
    "uuid": rf"\bUUID\b|\b{HEX}{{8}}-(?:{HEX}{{4}}-){{3}}{HEX}{{12}}\b",
    "digest": r"\b[0-9a-f]{40}\b",
    "ticket": r"\bPVE:\S+:(?:TICKET|[0-9A-F]{8}::\S+)",
    "csrf": r"\b[0-9A-F]{8}:[A-Za-z0-9+/]{40,}",
    "created": r"\bctime=\d+",
    "temporary": r"\.tmp\.\d+",
    "ipv4": r"\b(?:\d{1,3}\.){3}\d{1,3}\b",
    "secret": r"\*\*\*(?!\*)",
}
TOKEN = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in TOKENS.items()))
LASTING = {"upid", "fingerprint", "mac", "digest", "ipv4"}

# By key: numbers that differ in each run.
COUNTERS = """
    cpu mem disk uptime netin netout diskread diskwrite pid pstart starttime endtime idle wait used
    avail used_fraction free time snaptime ctime mtime freemem memhost
    pressurecpufull pressurecpusome pressureiofull pressureiosome pressurememoryfull
    pressurememorysome rx-bytes rx-packets rx-errs rx-dropped tx-bytes tx-packets tx-errs
    tx-dropped port loadavg"""

# Of what is stopped these are 0 for certain.
ZERO_WHEN_STOPPED = frozenset(["cpu", "mem", "netin", "netout", "diskread", "diskwrite", "uptime"])
# By key: what the host is, and what is made up for each caller.
SHAPES = """cpuinfo ksm swap kversion current-kernel boot-info password ticket cert
    CSRFPreventionToken"""
# By key: what only QEMU itself knows; not looked into.
OPAQUE = frozenset(["blockstat", "ballooninfo", "proxmox-support"])
SETS = frozenset(["content", "privs", "features"])
IDENTITIES = ("upid", "id", "key", "volid", "vmid", "name", "storage", "userid", "tokenid",
              "roleid", "groupid", "realm", "poolid", "node", "subdir", "n")  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """`where`: status, reason, content type, or a path in the body."""

    where: str
    expected: Any
    got: Any


@dataclass
class Names:
    """`fixed`: the text of the world file; what it names has that name in the simulator, too."""

    fixed: str = ""
    simulated: dict[str, str] = field(default_factory=dict)
    recorded: dict[str, str] = field(default_factory=dict)

    def fork(self) -> "Names":
        """The same, to try something out on."""
        return Names(self.fixed, dict(self.simulated), dict(self.recorded))

    def agree(self, kind: str, expected: str, got: str) -> bool:
        """Whether these two may be the same thing; if so they are from now on."""
        key, value = _key(kind, expected), _key(kind, got)
        if kind != "upid" and self._is_fixed(expected):
            return key == value
        if key in self.simulated or value in self.recorded:
            return self.simulated.get(key) == value and self.recorded.get(value) == key
        self.simulated[key], self.recorded[value] = value, key
        return True

    def translate(self, text: str) -> str:
        """What a later request calls by its recorded name. A name never seen is the caller's."""

        def put(found: re.Match[str]) -> str:
            kind = str(found.lastgroup)
            if kind not in LASTING or kind == "ipv4":
                return found[0]
            key = _key(kind, found[0])
            if key not in self.simulated:
                if kind == "mac":
                    self.agree(kind, found[0], found[0])
                return found[0]
            return self.simulated[key][len(kind) + 1 :]

        return TOKEN.sub(put, text)

    def _is_fixed(self, text: str) -> bool:
        return text.lower() in self.fixed


def _key(kind: str, text: str) -> str:
    return f"{kind} {text.upper() if kind == 'mac' else text}"


def differences(expected: Any, got: Any, names: Names, where: str = "body") -> list[Difference]:
    """All differences of two JSON values; names are learned only where there are none."""
    trial = names.fork()
    found = list(_compare(expected, got, trial, where, "", {}))
    if not found:
        names.simulated, names.recorded = trial.simulated, trial.recorded
    return found


def _compare(
    expected: Any, got: Any, names: Names, where: str, key: str, parent: dict[str, Any]
) -> Iterator[Difference]:
    if key in OPAQUE and type(expected) is type(got):
        return
    if isinstance(expected, dict) and isinstance(got, dict):
        yield from _compare_objects(expected, got, names, where, key)
    elif isinstance(expected, list) and isinstance(got, list):
        yield from _compare_lists(expected, got, names, where, key)
    elif not _same(expected, got, names, key, parent):
        yield Difference(where, expected, got)


def _compare_objects(
    expected: dict[str, Any], got: dict[str, Any], names: Names, where: str, key: str
) -> Iterator[Difference]:
    for name in sorted(expected.keys() - got.keys()):
        yield Difference(f"{where}.{name}", expected[name], "(no such key)")
    for name in sorted(got.keys() - expected.keys()):
        yield Difference(f"{where}.{name}", "(no such key)", got[name])
    for name in expected.keys() & got.keys():
        # What is inside of a thing compared by shape is, too.
        inner = key if key in SHAPES.split() else name
        yield from _compare(expected[name], got[name], names, f"{where}.{name}", inner, expected)


def _compare_lists(
    expected: list[Any], got: list[Any], names: Names, where: str, key: str
) -> Iterator[Difference]:
    """Hardly a list of this API has an order: rows are found by what names them."""
    if len(expected) != len(got):
        yield Difference(f"{where} (length)", len(expected), len(got))
    identity = _identity(expected, got)
    left = list(got)
    for index, row in enumerate(expected):
        path = f"{where}[{row[identity] if identity else index}]"
        partner = _partner(row, left, names, identity, key)
        if partner is None:
            if len(expected) == len(got) or identity:
                yield Difference(path, row, "(no such entry)")
            continue
        left.remove(partner)
        yield from _compare(row, partner, names, path, key, {})
    if identity:
        for row in left:
            yield Difference(f"{where}[{row[identity]}]", "(no such entry)", row)


def _identity(expected: list[Any], got: list[Any]) -> str:
    rows = [*expected, *got]
    if not rows or not all(isinstance(row, dict) for row in rows):
        return ""
    for key in IDENTITIES:
        if all(key in row and not isinstance(row[key], dict | list) for row in rows):
            values = [row[key] for row in expected]
            if len(set(values)) == len(values):
                return key
    return ""


def _partner(row: Any, left: list[Any], names: Names, identity: str, key: str) -> Any:
    """The entry that a recorded one is compared with: of the same name, or the first that fits."""
    if identity:
        for other in left:
            if other[identity] == row[identity]:
                return other
    for other in left:
        trial = names.fork()
        if identity:
            if _same(row[identity], other[identity], trial, identity, {}):
                return other
        elif not any(_compare(row, other, trial, "", key, {})):
            return other
    return left[0] if left and not identity else None


def _same(expected: Any, got: Any, names: Names, key: str, parent: dict[str, Any]) -> bool:
    if key in SHAPES.split():
        return type(expected) is type(got)
    if key == "saved":
        return str(expected) == str(got)  # it is a number until the list of tasks was read again
    if _is_number(expected) and _is_number(got):
        is_stopped = parent.get("status") == "stopped" and key in ZERO_WHEN_STOPPED
        return bool(expected == got) or (key in COUNTERS.split() and not is_stopped)
    if isinstance(expected, str) and isinstance(got, str):
        return _same_text(expected, got, names, key)
    return type(expected) is type(got) and bool(expected == got)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same_text(expected: str, got: str, names: Names, key: str) -> bool:
    if key in SETS:
        return sorted(expected.split(",")) == sorted(got.split(","))
    if key in COUNTERS.split() and re.fullmatch(r"[\d.]+", expected):
        return bool(re.fullmatch(r"[\d.]+", got))
    if "\n" in expected.rstrip("\n"):
        # Complaints about several keys come in the order of a Perl hash.
        lines = sorted(expected.split("\n")), sorted(got.split("\n"))
        return len(lines[0]) == len(lines[1]) and all(
            _same_line(one, other, names) for one, other in zip(*lines, strict=True)
        )
    return _same_line(expected, got, names)


def _same_line(expected: str, got: str, names: Names) -> bool:
    wanted, found = list(TOKEN.finditer(expected)), list(TOKEN.finditer(got))
    if any(token.lastgroup == "secret" for token in wanted):
        pattern = ".*".join(re.escape(part) for part in re.split(r"\*\*\*(?!\*)", expected))
        return bool(re.fullmatch(pattern, got, re.DOTALL))
    if TOKEN.sub("\0", expected) != TOKEN.sub("\0", got):
        return False
    return all(_same_token(one, other, names) for one, other in zip(wanted, found, strict=True))


def _same_token(expected: re.Match[str], got: re.Match[str], names: Names) -> bool:
    kind = str(expected.lastgroup)
    if kind != got.lastgroup:
        return False
    if kind == "upid":
        if _upid_meaning(expected[0]) != _upid_meaning(got[0]):
            return False
    elif kind == "ticket":
        return expected[0].split(":")[1] == got[0].split(":")[1]
    elif kind == "created" and names.fixed and expected[0] in names.fixed:
        return expected[0] == got[0]
    return kind not in LASTING or names.agree(kind, expected[0], got[0])


def _upid_meaning(upid: str) -> tuple[str, ...]:
    """Node, type, subject and user: all of a UPID that is not process and time."""
    parts = upid.split(":")
    return parts[1], *parts[5:]
