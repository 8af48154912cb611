"""Small things all views render with: times, cursors, ETags."""

import base64
import binascii
import hashlib
from datetime import UTC, datetime
from typing import Any

from flask import Response, current_app, request
from pydantic import BaseModel

from daas.errors import BadRequest

ROW_MAX = 2**62


def reply(
    payload: BaseModel, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """The model as JSON."""
    response: Response = current_app.json.response(payload.model_dump(mode="json"))
    response.status_code = status
    response.headers.update(headers or {})
    return response


def tagged(payload: BaseModel) -> Response:
    """The model as JSON with an ETag; 304 if the caller has it already. Weak, and over what is
    shown, not over `version`: the place in line and the time left are in no row."""
    response = reply(payload)
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest()[:24], weak=True)
    return response.make_conditional(request)


def when(epoch_s: float) -> str:
    """RFC 3339, UTC, in milliseconds."""
    at = datetime.fromtimestamp(epoch_s, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def maybe_when(epoch_s: float | None) -> str | None:
    return None if epoch_s is None else when(epoch_s)


def cursor_of(row: int) -> str:
    return base64.urlsafe_b64encode(str(row).encode()).decode().rstrip("=")


def row_of(cursor: str | None) -> int:
    """The row that a cursor of ours stands for; 0 without one."""
    if cursor is None:
        return 0
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        row = int(text)
    except (ValueError, binascii.Error):
        row = 0
    if not 0 < row < ROW_MAX or cursor_of(row) != cursor:
        raise BadRequest("cursor: take it from `next` of the page before, as it is", "cursor")
    return row


def preferences(header: str | None) -> dict[str, Any]:
    """`Prefer: respond-async, wait=10` as a table; what we do not know is left to be ignored."""
    pairs = (part.partition("=") for part in (header or "").lower().split(","))
    return {key.strip(): value.strip() for key, _, value in pairs}
