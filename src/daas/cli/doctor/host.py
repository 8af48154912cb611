"""The machine itself: kernel limits, disk space, clock, programs."""

import ctypes
import hashlib
import shutil
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from daas.cli.doctor.finding import Finding, fail, ok, warn

# A desktop takes about 10 inotify instances and 200 kernel keys; Debian's defaults end at a dozen.
LIMITS = {
    "fs.inotify.max_user_instances": 1024,
    "fs.inotify.max_user_watches": 65536,
    "kernel.keys.maxkeys": 2000,
    "kernel.keys.maxbytes": 1_000_000,
}
DISK_FAIL_GIB, DISK_WARN_GIB = 2.0, 8.0
CLOCK_S = 2.0
CERTIFICATE_S = 5.0
TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized
PROGRAMS = {  # of the provider lxd; the package that has each
    "mmdebstrap": "mmdebstrap",
    "ssh": "openssh-client",
    "nft": "nftables",
    "mkfs.btrfs": "btrfs-progs",
}
PROGRAMS_OF_PROXMOX = {"ssh": "openssh-client"}


def kernel_limits(read: Callable[[str], int | None]) -> list[Finding]:
    """`read` gives the value of a sysctl, or None where the kernel has it not."""
    found = []
    for name, least in LIMITS.items():
        value, id_ = read(name), f"kernel.{name.rpartition('.')[2]}"
        if value is None:
            found.append(warn(id_, f"{name} cannot be read.", "Look at it on the host."))
        elif value < least:
            remedy = f"Run deploy/lxd-up, or: sysctl -w {name}={least}"
            found.append(fail(id_, f"{name} is {value}; desktops need {least}.", remedy))
        else:
            found.append(ok(id_, f"{name} is {value}."))
    return found


def disk(folder: str, free_gib: float) -> Finding:
    said = f"{free_gib:.1f} GiB are free in {folder}"
    remedy = "Free some: `daas session list`, old builds, logs; or move it to a larger disk."
    if free_gib < DISK_FAIL_GIB:
        return fail("disk", f"Only {said}; the database may stop at any moment.", remedy)
    if free_gib < DISK_WARN_GIB:
        return warn("disk", f"Only {said}.", remedy)
    return ok("disk", f"{said}.")


def clock(ahead_of_database_s: float, is_synchronized: bool | None) -> Finding:
    """Certificates and Kerberos break over minutes; our own times are the database's."""
    if abs(ahead_of_database_s) > CLOCK_S:
        way = "ahead of" if ahead_of_database_s > 0 else "behind"
        said = f"This clock is {abs(ahead_of_database_s):.0f} s {way} the database's."
        return fail("clock", said, "Have both follow NTP: apt-get install systemd-timesyncd")
    if is_synchronized is False:
        remedy = "apt-get install systemd-timesyncd (or chrony; a container follows its host)"
        return warn("clock", "Nothing keeps this clock right.", remedy)
    return ok("clock", "The clock agrees with the database's.")


def programs(
    path: str,
    which: Callable[[str, str], str | None],
    needed: Mapping[str, str] = PROGRAMS,
) -> Finding:
    """What a template build and the provider need is on `path`."""
    missing = {name: package for name, package in needed.items() if not which(name, path)}
    if missing:
        remedy = f"apt-get install {' '.join(sorted(set(missing.values())))}"
        return fail("programs", f"Not found on PATH: {', '.join(missing)}.", remedy)
    return ok("programs", "The programs that builds need are there.")


def certificate_fingerprint(url: str) -> str:
    """Return the SHA-256 of the certificate that is shown there, as `openssl` prints it; "" if
    none is."""
    parts = urlsplit(url)
    try:
        where = (parts.hostname or "", parts.port or 443)
        shown = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(where, timeout=CERTIFICATE_S))
    except (OSError, ValueError):
        return ""
    return hashlib.sha256(shown).digest().hex(":").upper()


def sysctl(name: str) -> int | None:
    try:
        return int(Path("/proc/sys", *name.split(".")).read_text())
    except (OSError, ValueError):
        return None


def free_gib(folder: Path) -> float:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**30


def is_synchronized() -> bool | None:
    """What the kernel says; None where it may not be asked."""
    buffer = ctypes.create_string_buffer(512)  # struct timex; all zero: read only
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    return None if state < 0 else state != TIME_ERROR
