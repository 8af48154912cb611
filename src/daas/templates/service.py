"""What people can ask of templates: write a version, build it, make desktops of it."""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session as Db

from daas import events
from daas.access.actors import Actor
from daas.db import alone, now
from daas.errors import BadRequest, Forbidden, NotFound, WrongState
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.nodes.models import Cluster
from daas.templates.document import TemplateDocument
from daas.templates.models import PENDING, Build, BuildStatus, Template

BASE32 = "abcdefghijklmnopqrstuvwxyz234567"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecipeSize:
    cpus: int
    memory_mib: int
    disk_gib: int
    reserve_mib: int


@dataclass(frozen=True)
class Recipe:
    """All that a session needs to know of its template; kept on it for good."""

    template: str
    version: int
    image: str
    cluster: str
    size_name: str
    size: RecipeSize
    options: Mapping[str, Any]


def recipe(
    db: Db, actor: Actor, name: str, size: str | None = None, cluster: str | None = None
) -> Recipe:
    """How to make a desktop of the newest built version. NotFound, also for a size that it does
    not have; WrongState if it was never built."""
    template, build = _newest_built(db, actor, name, cluster)
    document = TemplateDocument.model_validate(template.document)
    size_name = size or document.default_size
    if size_name not in document.sizes:
        known = ", ".join(document.sizes)
        raise NotFound(f"{name} has no size {size_name}; it has {known}.", "size")
    chosen = document.sizes[size_name]
    kind = db.get_one(Cluster, build.cluster).kind
    return Recipe(
        template=name,
        version=template.version,
        image=build.image or "",
        cluster=build.cluster,
        size_name=size_name,
        size=RecipeSize(chosen.cpus, chosen.memory_mib, chosen.disk_gib, chosen.reserved),
        options=document.provider.get(kind, {}),  # type: ignore[call-overload]
    )


def write(db: Db, actor: str, document: Mapping[str, Any], tenant: str | None = None) -> Template:
    """A version of the template with this document exists, a new one if it differs from the
    newest. BadRequest names the field that is wrong."""
    checked = _checked(document)
    alone(db, f"template/{checked.name}")
    newest = _newest(db, checked.name)
    if newest and newest.tenant != tenant:
        raise Forbidden(f"Template {checked.name} belongs to somebody else; take another name.")
    digest = checked.digest()
    if newest and newest.digest == digest:
        return newest
    template = Template(
        name=checked.name,
        version=newest.version + 1 if newest else 1,
        tenant=tenant,
        document=checked.model_dump(mode="json", exclude_none=True),
        digest=digest,
        created_at=db.scalar(select(now())) or 0.0,
        created_by=actor,
    )
    db.add(template)
    subject = f"template/{template.name}"
    events.record(
        db, subject, "", f"version {template.version}", actor, "written", template.tenant or ""
    )
    return template


def import_folder(db: Db, folder: Path) -> list[str]:
    """Each document in `folder` is a template; one that cannot be read is named in the log and
    hides no other."""
    names = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            names.append(write(db, "system", yaml.safe_load(path.read_text())).name)
        except (BadRequest, yaml.YAMLError, OSError) as error:
            log.warning("%s is left out: %s", path.name, error)
    return names


def build(
    db: Db, actor: Actor, name: str, cluster: str | None = None, provider: str | None = None
) -> Build:
    """The newest version of the template is being built, or will be, on that cluster or on one of
    that kind; asked again meanwhile, it is the same build."""
    if not actor.is_admin:
        raise Forbidden("Building a template is for administrators.")
    template = shown(db, actor, name)
    where = _cluster(db, cluster, provider)
    alone(db, f"template/{name}")
    same = (Build.template == name, Build.version == template.version, Build.cluster == where)
    if pending := db.scalar(select(Build).where(*same, PENDING).with_for_update()):
        return pending
    made = Build(
        name="build-" + "".join(secrets.choice(BASE32) for _ in range(6)),
        template=name,
        version=template.version,
        cluster=where,
        status=BuildStatus.QUEUED.value,
        created_at=db.scalar(select(now())) or 0.0,
    )
    db.add(made)
    reason = f"{name} version {template.version}"
    events.record(db, f"build/{made.name}", "", "queued", actor.name, reason, template.tenant or "")
    queue.wake(db, "build", made.name, Lane.BULK, Priority.PERSON)
    return made


def listed(db: Db, actor: Actor) -> list[Template]:
    """The newest version of each template that `actor` may use, by name."""
    newest = select(Template.name, func.max(Template.version).label("v")).group_by(Template.name)
    top = newest.subquery()
    rows = select(Template).join(top, (Template.name == top.c.name) & (Template.version == top.c.v))
    return [t for t in db.scalars(rows.order_by(Template.name)) if _is_visible(t, actor)]


def shown(db: Db, actor: Actor, name: str, version: int | None = None) -> Template:
    """That version, or the newest; NotFound for what the actor may not use."""
    template = _newest(db, name) if version is None else _version(db, name, version)
    if template is None or not _is_visible(template, actor):
        raise NotFound(f"There is no template {name}.")
    return template


def builds_of(db: Db, name: str, limit: int = 50) -> list[Build]:
    """The builds of a template, newest first."""
    rows = select(Build).where(Build.template == name).order_by(Build.created_at.desc())
    return list(db.scalars(rows.limit(limit)))


def shown_build(db: Db, actor: Actor, name: str, build_name: str) -> Build:
    shown(db, actor, name)
    build = db.get(Build, build_name)
    if build is None or build.template != name:
        raise NotFound(f"There is no build {build_name} of {name}.")
    return build


def _checked(document: Mapping[str, Any]) -> TemplateDocument:
    try:
        return TemplateDocument.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise BadRequest(f"{where}: {first['msg']}", where) from None


def _is_visible(template: Template, actor: Actor) -> bool:
    return template.tenant is None or actor.sees(template.tenant)


def _newest(db: Db, name: str) -> Template | None:
    rows = select(Template).where(Template.name == name).order_by(Template.version.desc())
    return db.scalar(rows.limit(1))


def _version(db: Db, name: str, version: int) -> Template | None:
    return db.scalar(select(Template).where(Template.name == name, Template.version == version))


def _newest_built(db: Db, actor: Actor, name: str, cluster: str | None) -> tuple[Template, Build]:
    shown(db, actor, name)
    built = select(Build).where(Build.template == name, Build.status == BuildStatus.BUILT.value)
    if cluster:
        built = built.where(Build.cluster == cluster)
    build = db.scalar(built.order_by(Build.version.desc(), Build.ended_at.desc()).limit(1))
    template = _version(db, name, build.version) if build else None
    if build is None or template is None:
        raise WrongState(f"Template {name} is not built yet: run `daas template build {name}`.")
    return template, build


def _cluster(db: Db, name: str | None, kind: str | None) -> str:
    clusters = list(db.scalars(select(Cluster).order_by(Cluster.name)))
    for cluster in clusters:
        if name in (None, cluster.name) and kind in (None, cluster.kind):
            return cluster.name
    if not clusters:
        raise NotFound("There is no cluster yet.")
    if kind:
        has = ", ".join(sorted({cluster.kind for cluster in clusters}))
        what = f"no cluster of kind {kind}" if name is None else f"no {kind} cluster {name}"
        raise NotFound(
            f"There is {what}; this installation has {has}. It is chosen by DAAS_PROVIDER={kind}, "
            "and a restart.",
            "provider",
        )
    raise NotFound(f"There is no cluster {name}.", "cluster")
