"""The installation: database and schema, secrets, the worker, templates."""

import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from daas.cli.doctor.finding import Finding, fail, ok, warn

WORKER_LATE_S = 60.0  # the look at the nodes is due each 30 s
TEMPLATE_OLD_S = 30 * 86400.0
Images = Mapping[str, str]  # those that the provider has: what is wrong with it, "" if nothing


@dataclass(frozen=True)
class Built:
    """The newest build of a template that succeeded; `image` and `at` are None without one."""

    template: str
    image: str | None
    at: float | None


@dataclass(frozen=True)
class Facts:
    """What the database says. `overdue_s`: since when a standing job waits for a worker."""

    now_s: float
    overdue_s: float
    built: list[Built] = field(default_factory=list)
    instance: str | None = None


def schema(is_at: str | None, needed: str | None) -> Finding:
    if is_at is None:
        return fail("database", "The database has no tables.", "Run: daas init")
    if is_at != needed:
        said = f"The schema is at revision {is_at}, this version needs {needed}."
        return fail("database", said, "Run: daas db upgrade")
    return ok("database", f"The database answers; its schema is {is_at}, as needed.")


def secrets(folder: Path) -> Finding:
    """The key and the rest exist, and nobody else may read them."""
    id_ = "secrets"
    try:
        missing = [name for name in ("key", "instance") if not (folder / name).exists()]
        if missing:
            said = f"{folder} lacks {' and '.join(missing)}."
            return fail(id_, said, "Run `daas init`, or restore them from your backup.")
        open_ones = [p.name for p in folder.iterdir() if _is_open(p)]
    except PermissionError:
        return warn(id_, f"{folder} is not ours to look at.", "Run `daas doctor` as root.")
    if _is_open(folder) and open_ones:
        said = f"Others may read {', '.join(sorted(open_ones))} in {folder}."
        return fail(id_, said, f"Run: chmod 700 {folder} && chmod 600 {folder}/*")
    if open_ones or _is_open(folder):
        said = f"{folder} is open wider than it need be."
        return warn(id_, said, f"Run: chmod 700 {folder} && chmod 600 {folder}/*")
    return ok(id_, f"Only we can read {folder}.")


def same_instance(in_database: str | None, beside_secrets: str) -> Finding:
    """A copied installation must not destroy the machines of the one it was copied from."""
    if in_database and in_database != beside_secrets:
        return warn(
            "instance",
            "Database and secrets are of different installations: machines that no session wants "
            "are reported only, not removed.",
            "Restore the secrets of the same backup as the database.",
        )
    return ok("instance", "Database and secrets belong together.")


def worker(facts: Facts) -> Finding:
    if facts.overdue_s > WORKER_LATE_S:
        said = f"No worker has done its rounds for {facts.overdue_s:.0f} s."
        remedy = "Run `daas serve` (systemctl restart orchestrator-daas) and read its log."
        return fail("worker", said, remedy)
    return ok("worker", "A worker does its rounds.")


def templates(facts: Facts, images: Images | None, default: str) -> list[Finding]:
    """The default template is built, no image is missing, none is old. `images` is None where the
    provider could not be asked."""
    found = [_template(b, facts.now_s, images, b.template == default) for b in facts.built]
    if default not in [b.template for b in facts.built]:
        remedy = "Name another in DAAS_DEFAULT_TEMPLATE, or: daas template create FILE"
        found.append(fail(f"template.{default}", f"There is no template {default}.", remedy))
    return found


def _template(built: Built, now_s: float, images: Images | None, is_default: bool) -> Finding:
    name, id_ = built.template, f"template.{built.template}"
    build = f"Run: daas template build {name}"
    if built.image is None or built.at is None:
        if is_default:
            return warn(id_, f"The default template {name} is not built.", build)
        return ok(id_, f"{name} is not built; nobody needs it yet.")
    if images is not None and built.image not in images:
        return fail(id_, f"The image {built.image} of {name} is gone.", build)
    if wrong := (images or {}).get(built.image):
        said, _, remedy = wrong.partition(": ")
        return fail(id_, f"The image {built.image} of {name} {said}.", remedy)
    age_s = now_s - built.at
    if age_s > TEMPLATE_OLD_S:
        days = age_s / 86400
        said = f"{name} was built {days:.0f} days ago; it lacks security updates since."
        return warn(id_, said, build)
    day = time.strftime("%Y-%m-%d", time.localtime(built.at))
    return ok(id_, f"{name} was built on {day}.")


def _is_open(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
