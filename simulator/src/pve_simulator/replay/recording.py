"""A recording: one exchange a line, as JSON. Secrets in it are `***`."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

API = "/api2/json"
LATEST_START_S = 86400.0
UPID = re.compile(r"UPID:[^:/\s]+:[0-9A-F]{8}:[0-9A-F]{8,}:[0-9A-F]{8}:[^:/\s]*:[^:/\s]*:[^:/\s]+:")


class BadRecording(ValueError):
    """A line that is no exchange; the text names the line."""


@dataclass(frozen=True)
class Exchange:
    """`t`: when it was asked, in seconds; `dt`: how long until it was answered."""

    n: int
    t: float
    dt: float
    method: str
    path: str  # without /api2/json and query, decoded
    params: dict[str, Any]
    status: int
    reason: str
    content_type: str | None
    response: Any  # parsed JSON, or ""

    @property
    def answered_at(self) -> float:
        return self.t + self.dt

    @property
    def upid(self) -> str | None:
        """The task that this exchange started."""
        data = self.response.get("data") if isinstance(self.response, dict) else None
        return data if isinstance(data, str) and UPID.fullmatch(data) else None

    @property
    def data(self) -> Any:
        return self.response.get("data") if isinstance(self.response, dict) else None


def load(path: str | Path) -> list[Exchange]:
    """The exchanges of a file, in the order of their times."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    found = [_parse(line, number) for number, line in enumerate(lines, 1) if line.strip()]
    found.sort(key=lambda exchange: exchange.t)
    if found and found[0].t > LATEST_START_S:
        # Somebody wrote what the clock showed.
        began = found[0].t - 1
        found = [replace(exchange, t=exchange.t - began) for exchange in found]
    return found


def _parse(line: str, number: int) -> Exchange:
    try:
        row = json.loads(line)
        url = urlsplit(row["path"])
        params = _params(url.query) | _params(row.get("request") or "")
        return Exchange(
            n=int(row.get("n", number)),
            t=float(row["t"]),
            dt=float(row.get("dt") or 0),
            method=str(row["method"]),
            path=unquote(url.path).removeprefix(API) or "/",
            params=params,
            status=int(row["status"]),
            reason=str(row["reason"]),
            content_type=row.get("ctype"),
            response=_body(row.get("response") or ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadRecording(f"line {number} is no exchange: {error!r}") from None


def _body(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return json.loads(value)
    return value


def _params(text: Any) -> dict[str, Any]:
    if isinstance(text, dict):
        return {key: _text(value) for key, value in text.items()}
    if text.lstrip().startswith("{"):
        return {key: _text(value) for key, value in json.loads(text).items()}
    found: dict[str, Any] = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        if key in found:
            # A parameter that is given more than once is a list.
            before = found[key]
            found[key] = [*before, value] if isinstance(before, list) else [before, value]
        else:
            found[key] = value
    return found


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(int(value))
    return [_text(one) for one in value] if isinstance(value, list) else str(value)
