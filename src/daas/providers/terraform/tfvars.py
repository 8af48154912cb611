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
QUOTED = r'"(?:[^"\\\n]|\\.)*"'
HEREDOC = r"<<-?(?P<word>[A-Za-z_]\w*)\r?\n(?P<body>.*?)^[ \t]*(?P=word)[ \t]*$"
COMMENT = re.compile(rf"({QUOTED}|{HEREDOC})|(?:#|//)[^\n]*|/\*.*?\*/", re.M | re.S)
SETTING = re.compile(r'^[ \t]*"?(?P<name>[A-Za-z_][\w-]*)"?[ \t]*=[ \t]*', re.M)
TEXT = re.compile(rf"(?P<quoted>{QUOTED})|{HEREDOC}", re.M | re.S)
PIECE = re.compile(rf"{QUOTED}|[][{{}}()\n]|[^][{{}}()\n\"]+", re.S)


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
    text = COMMENT.sub(lambda found: found[1] or "", text)
    at = 0
    while setting := SETTING.search(text, at):
        value, at = _value(text, setting.end())
        if value != "null":
            yield setting["name"], value


def _value(text: str, at: int) -> tuple[str, int]:
    """The value that begins there, and where it ends."""
    if found := TEXT.match(text, at):
        quoted = found["quoted"]
        return json.loads(quoted.replace("$${", "${")) if quoted else found["body"], found.end()
    end = _end_of_expression(text, at)
    return text[at:end].strip(), end


def _end_of_expression(text: str, at: int) -> int:
    """The end of the line; of a list or an object, which may go over lines, that of its last."""
    depth = 0
    while piece := PIECE.match(text, at):
        depth += (piece[0] in "[{(") - (piece[0] in "]})")
        if piece[0] == "\n" and depth == 0:
            break
        at = piece.end()
    return at
