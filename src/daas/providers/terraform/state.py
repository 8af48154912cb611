"""The state of one machine: JSON text that we keep elsewhere and lend to Terraform for a run."""

import json
from pathlib import Path
from typing import Any

from daas.providers.terraform.errors import StateUnusable

STATE = "terraform.tfstate"
ERRORED = "errored.tfstate"  # where Terraform writes it when its backend does not take it
# Summaries of both programs, of a state that is corrupt, of a newer version, or held by somebody.
REFUSALS = (
    "Error acquiring the state lock",
    "Error loading state",
    "Error refreshing state",
    "Failed to load state",
    "Failed to read state",
    "Unsupported state file format",
)


def checked(text: str) -> str:
    """The text, if it is a state at all; StateUnusable otherwise."""
    if _parsed(text) is None:
        raise StateUnusable("The kept Terraform state is damaged; the machine is found without it.")
    return text


def on_disk(folder: Path) -> str | None:
    """The state that a run left in `folder`; None where it left none that is whole."""
    for name in (ERRORED, STATE):
        try:
            text = (folder / name).read_text()
        except (OSError, ValueError):
            continue
        if _parsed(text) is not None:
            return text
    return None


def newer(given: str | None, found: str | None) -> str | None:
    """Of the state we keep and one that a killed run left, the one that knows more."""
    if given is None or found is None:
        return given or found
    ours, theirs = _parsed(given) or {}, _parsed(found) or {}
    is_later = ours.get("lineage") == theirs.get("lineage") and theirs["serial"] > ours["serial"]
    return found if is_later else given


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        state = json.loads(text)
    except ValueError:
        return None
    is_state = isinstance(state, dict) and isinstance(state.get("serial"), int)
    return state if is_state and "version" in state else None
