"""What a check finds. A check is a function over what it is given, so that each can be provoked."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Result = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """`message` says what is, `remedy` what to do about it."""

    id: str
    result: Result
    message: str
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def ok(id_: str, message: str) -> Finding:
    return Finding(id_, "ok", message)


def warn(id_: str, message: str, remedy: str) -> Finding:
    return Finding(id_, "warn", message, remedy)


def fail(id_: str, message: str, remedy: str) -> Finding:
    return Finding(id_, "fail", message, remedy)
