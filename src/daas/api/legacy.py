"""The contract of version 1.0, to the letter: a thin skin over the same verbs. Unknown fields are
ignored; create answers when the desktop is ready, destroy when it is gone."""

from datetime import UTC, datetime
from typing import Any, TypeVar

from flask import Blueprint, Flask, Response, current_app, make_response, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from daas.access.actors import Actor
from daas.api import errors, streams
from daas.api.auth import actor
from daas.api.core import Core, core
from daas.api.render import preferences
from daas.api.requests import parsed
from daas.api.schemas import LocalUser, Owner, Password, SessionIn
from daas.api.sessions import request_one
from daas.errors import BadRequest
from daas.sessions import queries, service
from daas.sessions.models import Session
from daas.sessions.states import Desired, Status

DESTROY_WAIT_S = 600.0
READY = "Desktop prêt ! Connectez-vous en RDP"
COMING = "Desktop en préparation"

bp = Blueprint("legacy", __name__)
Form = TypeVar("Form", bound=BaseModel)


class Create(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    username: Owner
    session_user: LocalUser | None = None
    session_password: Password | None = None


class Destroy(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    session_id: str = Field(min_length=1)


@bp.get("/api/sessions")
def list_all() -> Response:
    with core().database.reading() as db:
        rows = queries.handed_out(db, actor())
    return _json({row.name: _listed(row) for row in rows})


@bp.post("/api/session/create")
def create() -> Response:
    form = _form(Create)
    body = SessionIn(
        owner=form.username, local_user=form.session_user, password=form.session_password
    )
    session, _ = request_one(actor(), body, asked_user=form.session_user)
    if "respond-async" in preferences(request.headers.get("Prefer")):
        return _json(_created(session, COMING), 202)
    return streams.hold(_until_ready(core(), actor(), session.name))


@bp.post("/api/session/destroy")
def destroy() -> Response:
    name = _form(Destroy).session_id
    with core().database.transaction() as db:
        service.want(db, actor(), name, Desired.DELETED)
    return streams.hold(_until_deleted(core(), actor(), name))


def _form(model: type[Form]) -> Form:
    if not request.is_json:
        raise BadRequest("Send the body as application/json.", "body")
    try:
        return model.model_validate(parsed(request.get_data()))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "missing" or first.get("input") in (None, ""):
            raise Missing(str(first["loc"][0])) from None
        raise errors.as_refusal(error) from None


class Missing(BadRequest):
    """A field that version 1.0 required: answered in its very words."""

    def __init__(self, field: str):
        super().__init__(f"{field} required", field)


def _missing(error: Missing) -> tuple[dict[str, str], int]:
    return {"error": str(error)}, 400


def install(app: Flask) -> None:
    app.register_blueprint(bp)
    app.register_error_handler(Missing, _missing)


def _listed(s: Session) -> dict[str, Any]:
    return {
        "session_id": s.name,
        "vm_name": s.name,
        "vm_ip": _endpoint(s)[0],
        "username": s.owner,
        "created_at": datetime.fromtimestamp(s.created_at, UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "status": "active" if s.status is Status.READY else s.status.value,
    }


def _created(s: Session, message: str) -> dict[str, Any]:
    host, port = _endpoint(s)
    return {
        "session_id": s.name,
        "vm_name": s.name,
        "vm_ip": host,
        "rdp_port": port,
        "username": s.owner,
        "session_user": s.asked_user,
        "status": s.status.value,
        "message": message,
    }


def _endpoint(s: Session) -> tuple[str | None, int | None]:
    host, _, port = (s.endpoints or {}).get("rdp", "").rpartition(":")
    return (host.strip("[]"), int(port)) if host else (None, None)


def _until_ready(base: Core, who: Actor, name: str) -> streams.Wait:
    dumps = current_app.json.dumps

    def look(is_late: bool) -> streams.Answer | None:
        with base.database.reading() as db:
            s = queries.shown(db, who, name)
        if s.desired is Desired.DELETED or s.status is Status.DELETED:
            return _failed(dumps, "Session was deleted", f"{name} was deleted meanwhile.")
        if s.status is Status.READY:
            return _answer(dumps, 200, _created(s, READY))
        if s.status is Status.FAILED:
            return _failed(dumps, "Desktop creation failed", f"{name}: {s.failure}")
        late = f"{name} is still {s.status}; it goes on, see GET /api/sessions."
        return _failed(dumps, "Desktop is not ready yet", late) if is_late else None

    return streams.Wait(f"session/{name}", look, base.legacy_wait_s)


def _until_deleted(base: Core, who: Actor, name: str) -> streams.Wait:
    dumps = current_app.json.dumps

    def look(is_late: bool) -> streams.Answer | None:
        with base.database.reading() as db:
            s = queries.shown(db, who, name)
        if s.status is Status.DELETED:
            return _answer(dumps, 200, {"session_id": name, "status": "destroyed"})
        late = f"Nobody can reach {name} any more; its machine is still being removed."
        return _failed(dumps, "Desktop is still there", late) if is_late else None

    return streams.Wait(f"session/{name}", look, min(DESTROY_WAIT_S, base.legacy_wait_s))


def _failed(dumps: Any, error: str, details: str) -> streams.Answer:
    return _answer(dumps, 500, {"error": error, "details": details})


def _answer(dumps: Any, status: int, body: dict[str, Any]) -> streams.Answer:
    return streams.Answer(status, dumps(body).encode(), {"Content-Type": "application/json"})


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return make_response(current_app.json.response(body), status)
