"""Every error as an answer: problem details (RFC 9457), or `{error, details}` for version 1.0."""

import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, g, make_response, request
from flask.json import dumps
from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError
from werkzeug.exceptions import HTTPException

from daas.errors import BadRequest, DaasError, NotFound, WrongState

PROBLEM = "application/problem+json"
CODES = {408: "too-slow", 413: "body-too-large"}
BRANCHES = {"constrained-str", "str", "float", "int", "bool", "none"}
LEGACY = ("/api/session/", "/api/sessions")
# What version 1.0 knew: refused or broken; 401, 413 and 429 only where such limits are on.
KEPT_BY_LEGACY = (401, 405, 413, 429)

log = logging.getLogger(__name__)


class Contradiction(WrongState):
    """Each field is well formed, but together they make no sense."""

    code = "contradiction"


def install(app: Flask) -> None:
    app.register_error_handler(DaasError, render)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(IntegrityError, _raced)
    app.register_error_handler(Exception, _unexpected)


def render(error: DaasError) -> Response:
    """The answer for an error of ours."""
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("%s: %s", error.code, error)
    return answer(error.status, error.code, str(error), error.field, headers)


def of_validation(error: ValidationError) -> Response:
    """The answer for a request that its model refused. It names the first field that is wrong."""
    return render(as_refusal(error))


def as_refusal(error: ValidationError) -> DaasError:
    first = error.errors(include_url=False)[0]
    where = ".".join(_named(first["loc"]))
    if error.title.endswith("Path"):  # a name that cannot be is one that is not there
        return NotFound(f"There is no {error.title.removesuffix('Path').lower()} of that name.")
    if first["type"] == "value_error" and isinstance(first.get("input"), dict):
        return Contradiction(_plain(first["msg"]), where or "body")
    return BadRequest(f"{where or 'body'}: {_plain(first['msg'])}", where or "body")


def answer(
    status: int,
    code: str,
    detail: str,
    field: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    if request.path.startswith(LEGACY):
        return _legacy(status, code, detail, headers or {})
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": g.get("request_id", ""),
    }
    if field:
        problem["field"] = field
    response = make_response(dumps(problem), status, headers or {})
    response.content_type = PROBLEM
    return response


def _legacy(status: int, code: str, detail: str, headers: dict[str, str]) -> Response:
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        status = status if status in KEPT_BY_LEGACY else 400
    elif code == "no-room":
        status = 400  # policy said no; nothing broke
    else:
        status = 500
    body = {"error": code.replace("-", " ").capitalize(), "details": detail}
    return make_response(current_app.json.response(body), status, headers)


def _http(error: HTTPException) -> Response:
    """Werkzeug's own: unknown address, wrong method, a body too large."""
    if error.response is not None:
        return make_response(error.response)
    status = error.code or 500
    kept = ("Allow", "Retry-After")
    headers = {k: v for k, v in error.get_headers() if k in kept}
    code = CODES.get(status, HTTPStatus(status).phrase.lower().replace(" ", "-"))
    return answer(status, code, _SAID.get(status, error.description or code), headers=headers)


_SAID = {
    404: "There is nothing at this address; /openapi lists what there is.",
    405: "This address does not answer to that method.",
    413: "The body is too large: 64 KiB at most.",
    415: "Send the body as application/json.",
}


def _raced(error: IntegrityError) -> Response:
    log.warning("raced: %s", type(error.orig).__name__)
    return render(WrongState("Somebody else changed this at the same moment; try again."))


def _unexpected(error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)  # its text may hold anything: not for the answer
    return answer(500, "internal", "Something broke here. The log has it under this request id.")


def _named(loc: tuple[int | str, ...]) -> list[str]:
    """The way to the field, without the branch of a union that pydantic tried."""
    parts = [str(part) for part in loc]
    while len(parts) > 1 and (parts[-1] in BRANCHES or parts[-1].startswith("function-")):
        parts.pop()
    return parts


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")
