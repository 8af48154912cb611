"""Small things all views render with: times, cursors, ETags."""

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any

from flask import Response, current_app, make_response, request
from pydantic import BaseModel


def reply(payload: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The model as JSON."""
    body = current_app.json.response(payload.model_dump(mode="json"))
    return make_response(body, status, headers or {})


def tagged(payload: BaseModel) -> Response:
    """The model as JSON with an ETag; 304 if the caller has it already. Weak, and over what is
    shown, not over `version`: the place in line and the time left are in no row."""
    response = reply(payload)
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest()[:24], weak=True)
    response.make_conditional(request)
    return response


def when(epoch_s: float) -> str:
    """RFC 3339, UTC, in milliseconds."""
    at = datetime.fromtimestamp(epoch_s, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def maybe_when(epoch_s: float | None) -> str | None:
    return None if epoch_s is None else when(epoch_s)


def cursor_of(row: int) -> str:
    return base64.urlsafe_b64encode(row.to_bytes(6, "big")).decode()


def row_of(cursor: str | None) -> int:
    """The row that a cursor stands for (each text of 8 letters is one); 0 without one."""
    return int.from_bytes(base64.urlsafe_b64decode(cursor or ""), "big")


def preferences(header: str | None) -> dict[str, Any]:
    """`Prefer: respond-async, wait=10` as a table; what we do not know is left to be ignored."""
    pairs = (part.partition("=") for part in (header or "").lower().split(","))
    return {key.strip(): value.strip() for key, _, value in pairs}
