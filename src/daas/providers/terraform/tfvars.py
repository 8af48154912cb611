"""What an administrator wrote into terraform.tfvars, as version 1.0 had it: texts for the
environment of a run, never copied into a file."""

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from daas.errors import ConfigError

OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO
SETTING = re.compile(r'[ \t]*"?([A-Za-z_][\w-]*)"?[ \t]*=[ \t]*')
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
HEREDOC = re.compile(r"<<-?([A-Za-z_]\w*)\r?\n(.*?)^[ \t]*\1[ \t]*$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"[ \t]*(?:#|//|/\*.*?\*/).*", re.DOTALL)


def read(module_dir: Path) -> dict[str, str]:
    """Values by name, as TF_VAR_name takes them: texts bare, all else as Terraform writes it.
    ConfigError if others may read a file of them."""
    values: dict[str, str] = {}
    for file in _files(module_dir):
        if file.stat().st_mode & OPEN_TO_OTHERS:
            raise ConfigError(f"{file} can be read by others; run: chmod 600 {file}")
        text = file.read_text()
        values |= _of_json(json.loads(text)) if file.suffix == ".json" else dict(_settings(text))
    return values


def _files(module_dir: Path) -> Iterator[Path]:
    """In the order in which a later one wins."""
    for name in ("terraform.tfvars", "terraform.tfvars.json"):
        if (module_dir / name).is_file():
            yield module_dir / name
    yield from sorted(
        file
        for file in module_dir.glob("*.auto.tfvars*")
        if file.name.endswith((".auto.tfvars", ".auto.tfvars.json"))
    )


def _of_json(values: dict[str, Any]) -> dict[str, str]:
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
        if value is not None
    }


def _settings(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        setting = SETTING.match(text, at)
        if not setting:  # an empty line or a comment
            at = _end_of_line(text, at)
            continue
        value, at = _value(text, setting.end())
        if value is not None:
            yield setting[1], value


def _value(text: str, at: int) -> tuple[str | None, int]:
    if quoted := QUOTED.match(text, at):
        return json.loads(quoted[0].replace("$${", "${")), _end_of_line(text, quoted.end())
    if heredoc := HEREDOC.match(text, at):
        return heredoc[2], heredoc.end()
    end = _end_of_expression(text, at)
    bare = text[at:end].strip()
    return (None if bare == "null" else bare), end


def _end_of_expression(text: str, at: int) -> int:
    """A list or an object goes on over lines until its brackets are closed."""
    depth = 0
    while at < len(text):
        if quoted := QUOTED.match(text, at):
            at = quoted.end()
            continue
        if text[at] == "#" or text.startswith("//", at):
            return at if depth == 0 else _end_of_line(text, at)
        depth += (text[at] in "[{(") - (text[at] in "]})")
        if text[at] == "\n" and depth == 0:
            return at
        at += 1
    return at


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1
