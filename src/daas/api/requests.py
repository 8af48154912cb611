"""How a request comes in: its id, its limits, its body as JSON that any database can keep."""

import json
import math
import re
import secrets
from typing import Any, NoReturn

import structlog
from flask import Flask, Request, Response, g, request
from werkzeug.exceptions import UnsupportedMediaType

from daas.api import auth
from daas.errors import BadRequest

EXACT = 2**53
BODY_MAX = 64 * 1024
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
REPEATABLE = {"status"}  # query parameters that may come more than once


class JsonRequest(Request):
    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body as an object; BadRequest or 415 otherwise, also for who asks silently: what
        cannot be read must not pass for an empty body."""
        if not self.is_json:
            raise UnsupportedMediaType()
        return parsed(self.get_data(cache=cache))


def install(app: Flask) -> None:
    app.request_class = JsonRequest
    app.config["MAX_CONTENT_LENGTH"] = BODY_MAX
    app.before_request(_begin)
    app.after_request(_label)
    app.teardown_request(_end)


def parsed(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`, without what a database could not keep: lone surrogates, NULs,
    numbers that are none. BadRequest names where it is."""
    try:
        found = json.loads(body.decode("utf-8"), parse_constant=_no_number, parse_float=_number)
    except RecursionError:
        raise BadRequest("The body is nested too deeply.", "body") from None
    except ValueError as error:  # broken JSON, not UTF-8, a number of 5,000 digits
        said = str(error) if isinstance(error, json.JSONDecodeError) else "not JSON in UTF-8"
        raise BadRequest(f"The body cannot be read: {said}.", "body") from None
    if not isinstance(found, dict):
        raise BadRequest("The body must be a JSON object.", "body")
    _check(found, "")
    return found


def _check(value: Any, where: str) -> None:
    if isinstance(value, str):
        _check_text(value, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise BadRequest(f"{where}: not a finite number", where)
    elif isinstance(value, list):
        for n, item in enumerate(value):
            _check(item, f"{where}.{n}".lstrip("."))
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key, where or "body")
            _check(item, f"{where}.{key}".lstrip("."))


def _check_text(text: str, where: str) -> None:
    if "\0" in text:
        raise BadRequest(f"{where}: holds a NUL character", where)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"{where}: holds half of a surrogate pair", where) from None


def _number(text: str) -> float:
    """2.0 is an integer in JSON."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < EXACT else value


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")


def _begin() -> None:
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
    g.log_words = structlog.contextvars.bind_contextvars(request=g.request_id)
    if request.routing_exception is not None or request.method == "OPTIONS":
        return
    if request.path.startswith("/api/"):
        auth.authenticate(request)
        for name, values in request.args.lists():
            if len(values) > 1 and name not in REPEATABLE:
                raise BadRequest(f"{name}: given {len(values)} times", name)


def _label(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.get("request_id", "")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    if request.path.startswith("/api/"):
        response.headers.setdefault("Cache-Control", "private, no-cache")
    return response


def _end(_: BaseException | None) -> None:
    if words := g.pop("log_words", None):
        structlog.contextvars.reset_contextvars(**words)
