"""What goes in and comes out: requests, answers, and errors as Proxmox VE words them.

A handler raises `Failed` for what Proxmox VE would `die` of: the text becomes the HTTP reason
phrase and the JSON message of a 500, or the exit status of the task it happens in.
"""

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import simpy

T = TypeVar("T")
Steps = Generator[simpy.Event, Any, T]
"""Something that takes (simulated) time and then has a result."""

JSON = "application/json;charset=UTF-8"


@dataclass(frozen=True)
class Request:
    """`path` is without `/api2/json`; `params` are query and body together, as strings.

    `entry` is the node whose API port was spoken to.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case
    entry: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)  # of a multipart upload


@dataclass(frozen=True)
class Response:
    status: int
    reason: str
    content_type: str | None
    body: str

    @property
    def data(self) -> Any:
        """The `data` of a JSON answer."""
        return json.loads(self.body)["data"]


class ApiError(Exception):
    """An answer that is not 200. `delay_s`: Proxmox VE makes who fails to log in wait."""

    def __init__(
        self,
        status: int,
        message: str,
        errors: Mapping[str, str] | None = None,
        *,
        has_body: bool = True,
        delay_s: float = 0,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors
        self.has_body = has_body
        self.delay_s = delay_s


class Failed(ApiError):
    """What a `die` does: 500 from a call, the exit status from a task."""

    def __init__(self, message: str) -> None:
        super().__init__(500, message)


class Forbidden(ApiError):
    def __init__(self, message: str) -> None:
        super().__init__(403, message)


class Invalid(ApiError):
    """400 with the complaint per parameter."""

    def __init__(self, **errors: str) -> None:
        super().__init__(400, "Parameter verification failed.", errors)


class Unauthorized(ApiError):
    """401 with an empty body, after the delay that slows down guessing."""

    def __init__(self, message: str) -> None:
        super().__init__(401, message, has_body=False, delay_s=3.0)


class Unanswered(ApiError):
    """The proxying node could not reach the one that was asked for."""

    def __init__(self, message: str = "Connection refused") -> None:
        super().__init__(595, message, has_body=False)


@dataclass(frozen=True)
class Page:
    """A part of a list, with how many there are: `total` stands beside `data`."""

    rows: list[Any]
    total: int


class Lost(ApiError):
    """The node that was asked went away before it had answered."""

    def __init__(self) -> None:
        super().__init__(596, "Connection reset by peer", has_body=False)


def ok(data: Any) -> Response:
    body = {"data": data.rows, "total": data.total} if isinstance(data, Page) else {"data": data}
    return Response(200, "OK", JSON, json.dumps(body))


def refusal(error: ApiError) -> Response:
    """The answer that says `error`. Only the first line fits into a reason phrase."""
    first_line = error.message.split("\n", 1)[0]
    if not error.has_body:
        return Response(error.status, first_line, None, "")
    # A 501 is made by the server itself; everything else ends as a Perl `die` does, with a newline.
    ending = "" if error.status == 501 else "\n"
    body: dict[str, Any] = {"data": None, "message": error.message.rstrip("\n") + ending}
    if error.errors:
        body["errors"] = dict(error.errors)
    return Response(error.status, first_line, JSON, json.dumps(body))
