"""What Terraform prints with `-json`, one object a line, as a person and as our code read it."""

import json
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from daas.providers.base import Progress
from daas.providers.terraform.errors import Diagnostic

HIDDEN = "**********"
SHORTEST_SECRET = 4  # a shorter text would blacken half of every line
VERBS = {"create": "creat", "delete": "destroy", "update": "chang", "read": "read"}


class Output:
    """Hand each line to `line`; a short note of it goes to `note`, free of `secrets`."""

    def __init__(self, secrets: Iterable[str], note: Progress):
        self._secrets = sorted(filter(_is_hidden, secrets), key=len, reverse=True)
        self._note = note
        self._diagnostics: list[Diagnostic] = []
        self.values: dict[str, Any] = {}  # the module's outputs

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        return tuple(self._diagnostics)

    def line(self, line: str) -> None:
        said = _parsed(line)
        handle = self._HANDLERS.get(str(said.get("type")))
        if handle:
            handle(self, said)

    def scrubbed(self, text: str) -> str:
        for secret in self._secrets:
            for form in (secret, json.dumps(secret)[1:-1]):
                text = text.replace(form, HIDDEN)
        return text

    def _say(self, text: str) -> None:
        self._note(self.scrubbed(f"terraform: {text}"))

    def _diagnostic(self, said: dict[str, Any]) -> None:
        found = said.get("diagnostic") or {}
        texts = (str(found.get(key) or "").strip() for key in ("summary", "detail"))
        diagnostic = Diagnostic(*map(self.scrubbed, texts))
        severity = found.get("severity")
        if severity == "error":
            self._diagnostics.append(diagnostic)
        self._say(f"{severity}: {' '.join(str(diagnostic).split())}")

    def _outputs(self, said: dict[str, Any]) -> None:
        given = said.get("outputs") or {}
        self.values = {name: one["value"] for name, one in given.items() if "value" in one}

    def _started(self, said: dict[str, Any]) -> None:
        self._say(f"{_verb(said)}ing {_address(said)}")

    def _goes_on(self, said: dict[str, Any]) -> None:
        self._say(f"still {_verb(said)}ing {_address(said)} after {_seconds(said)}")

    def _ended(self, said: dict[str, Any]) -> None:
        self._say(f"{_verb(said)}ed {_address(said)} in {_seconds(said)}")

    _HANDLERS: ClassVar[dict[str, Callable[["Output", dict[str, Any]], None]]] = {
        "diagnostic": _diagnostic,
        "outputs": _outputs,
        "apply_start": _started,
        "apply_progress": _goes_on,
        "apply_complete": _ended,
    }


def _is_hidden(secret: str) -> bool:
    return len(secret) >= SHORTEST_SECRET


def _parsed(line: str) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:  # a crash is told in prose
        return {}
    return said if isinstance(said, dict) else {}


def _verb(said: dict[str, Any]) -> str:
    action = str((said.get("hook") or {}).get("action"))
    return VERBS.get(action, action)


def _address(said: dict[str, Any]) -> str:
    return str(((said.get("hook") or {}).get("resource") or {}).get("addr"))


def _seconds(said: dict[str, Any]) -> str:
    return f"{(said.get('hook') or {}).get('elapsed_seconds', 0):.0f} s"
