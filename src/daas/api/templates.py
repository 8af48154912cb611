"""/api/v1/templates, and the builds of each"""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from sqlalchemy.orm import Session as Db

from daas.api import streams
from daas.api.auth import actor, require_admin
from daas.api.core import core
from daas.api.openapi import GUARDED, TAGS, answers
from daas.api.render import maybe_when, reply, tagged, when
from daas.api.schemas import (
    BuildList,
    BuildOut,
    BuildPath,
    BuildQuery,
    EventHeader,
    LogQuery,
    SizeOut,
    TemplateFull,
    TemplateIn,
    TemplateList,
    TemplateOut,
    TemplatePath,
)
from daas.api.sessions import LINES, log_feed
from daas.templates import queries, service
from daas.templates.document import TemplateDocument
from daas.templates.models import Build, BuildStatus, Template

bp = APIBlueprint(
    "templates",
    __name__,
    url_prefix="/api/v1/templates",
    abp_tags=[TAGS["templates"]],
    abp_security=GUARDED,
)


@bp.get("", responses=answers(401, ok=TemplateList, same=None))
def list_all() -> Response:
    """The templates you may use, each in its newest version"""
    with core().database.reading() as db:
        built = queries.built_versions(db)
        items = [_view(t, built.get(t.name)) for t in service.listed(db, actor())]
    return tagged(TemplateList(items=items))


@bp.post("", responses=answers(401, 403, 409, 413, 415, ok=TemplateFull, created=TemplateFull))
def write(body: TemplateIn) -> Response:
    """Write a version

    The same document as the newest version's is no new one: 200. An operator's templates are
    everybody's, an administrator's are their tenant's. Desktops are made of it once it is built."""
    who = require_admin("Writing a template")
    tenant = None if who.is_operator else who.tenant
    document = body.model_dump(mode="json", exclude_none=True)
    with core().database.transaction() as db:
        template = service.write(db, who.name, document, tenant)
        is_new = template in db.new
        db.flush()
        view = _full(db, template)
    headers = {"Location": f"/api/v1/templates/{template.name}"}
    return reply(view, 201 if is_new else 200, headers)


@bp.get("/<name>", responses=answers(401, 404, ok=TemplateFull, same=None))
def get(path: TemplatePath) -> Response:
    """One template in its newest version, with its document"""
    with core().database.reading() as db:
        return tagged(_full(db, service.shown(db, actor(), path.name)))


@bp.post("/<name>/builds", responses=answers(401, 403, 404, accepted=BuildOut))
def build(path: TemplatePath, query: BuildQuery) -> Response:
    """Have the newest version built; asked again meanwhile, it is the same build"""
    with core().database.transaction() as db:
        view = _build(service.build(db, actor(), path.name, query.cluster, query.provider))
    where = f"/api/v1/templates/{path.name}/builds/{view.id}"
    return reply(view, 202, {"Location": where})


@bp.get("/<name>/builds", responses=answers(401, 404, ok=BuildList, same=None))
def list_builds(path: TemplatePath) -> Response:
    """Its last 50 builds, newest first"""
    with core().database.reading() as db:
        service.shown(db, actor(), path.name)
        items = [_build(b) for b in service.builds_of(db, path.name)]
    return tagged(BuildList(items=items))


@bp.get("/<name>/builds/<id>", responses=answers(401, 404, ok=BuildOut, same=None))
def get_build(path: BuildPath) -> Response:
    """One build"""
    with core().database.reading() as db:
        return tagged(_build(service.shown_build(db, actor(), path.name, path.id)))


@bp.get("/<name>/builds/<id>/logs", responses=answers(401, 404, ok=LINES))
def read_build_logs(path: BuildPath, query: LogQuery, header: EventHeader) -> Response:
    """Its log lines, as text or as Server-Sent Events; `follow` stays until it has ended"""
    name = path.id
    with core().database.reading() as db:
        service.shown_build(db, actor(), path.name, name)

    def is_done(db: Db) -> bool:
        ended = (BuildStatus.BUILT, BuildStatus.FAILED)
        return not query.follow or db.get_one(Build, name).status in ended

    return streams.hold(log_feed(f"build/{name}", query, header, is_done))


def _view(t: Template, built: int | None) -> TemplateOut:
    document = TemplateDocument.model_validate(t.document)
    sizes = {
        name: SizeOut(cpus=s.cpus, memory_mib=s.memory_mib, disk_gib=s.disk_gib)
        for name, s in document.sizes.items()
    }
    return TemplateOut(
        name=t.name,
        version=t.version,
        built_version=built,
        tenant=t.tenant,
        title={str(k): v for k, v in document.title.items()},
        description={str(k): v for k, v in document.description.items()},
        sizes=sizes,
        default_size=document.default_size,
        created_at=when(t.created_at),
        created_by=t.created_by,
    )


def _full(db: Db, t: Template) -> TemplateFull:
    built = queries.built_versions(db).get(t.name)
    return TemplateFull(**_view(t, built).model_dump(), document=t.document)


def _build(b: Build) -> BuildOut:
    return BuildOut(
        id=b.name,
        template=b.template,
        version=b.version,
        cluster=b.cluster,
        status=BuildStatus(b.status).value,
        image=b.image,
        failure=b.failure,
        created_at=when(b.created_at),
        started_at=maybe_when(b.started_at),
        ended_at=maybe_when(b.ended_at),
    )
