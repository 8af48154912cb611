"""Where Debian's packages come from: the mirror, the proxy and the rules this host itself uses, so
that a build works wherever `apt-get install` does."""

import re
from collections.abc import Iterator
from pathlib import Path

from daas import process
from daas.errors import Refused

APT = Path("/etc/apt")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
URI = re.compile(r"\bhttps?://[^\s\[\]]+")
# What may matter for reaching a mirror. Not the rest: a host's own habits are not a desktop's.
OPTIONS = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")
DUMP_S = 10.0


def sources(suite: str, mirror: str | None = None, apt: Path = APT) -> str:
    """Return the text of a `.sources` file for a release of Debian, from `mirror` or else from
    where this host has it; Refused if neither is known."""
    uris = [f"{mirror}-security", mirror] if mirror else list(_uris(apt))
    main = mirror or _first(uris, "/debian")
    if main is None:
        raise Refused(
            "This host's apt knows no mirror of Debian; name one as base.mirror in the template."
        )
    security = _first(uris, "/debian-security") or f"{main.rstrip('/')}-security"
    return _stanza(main, f"{suite} {suite}-updates") + _stanza(security, f"{suite}-security")


def options() -> str:
    """Return the text of an `apt.conf` file: how this host reaches its mirror. It may hold a
    proxy's password; it goes by file, and not into the template."""
    lines = process.run(["apt-config", "dump"], DUMP_S).splitlines()
    kept = [line for line in lines if line.startswith(OPTIONS)]
    return "\n".join([*kept, 'APT::Install-Recommends "false";', 'Acquire::Languages "none";', ""])


def _uris(apt: Path) -> Iterator[str]:
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    for file in files:
        if file.suffix in (".list", ".sources") and file.is_file():
            for line in file.read_text(errors="replace").splitlines():
                yield from URI.findall(line.partition("#")[0])


def _first(uris: list[str], end: str) -> str | None:
    return next((uri.rstrip("/") for uri in uris if uri.rstrip("/").endswith(end)), None)


def _stanza(uri: str, suites: str) -> str:
    return f"Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: {KEYRING}\n\n"
