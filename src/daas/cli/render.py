"""What people and programs read: results on stdout, everything else on stderr."""

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

# Made when used: tests, and whoever redirects, replace the streams.
MARKS = {"ok": "[green]ok  [/]", "warn": "[yellow]warn[/]", "fail": "[red]FAIL[/]"}


def errors() -> Console:
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def results() -> Console:
    # What reads a pipe has no width.
    width = None if sys.stdout.isatty() else 1000
    return Console(file=sys.stdout, highlight=False, soft_wrap=True, width=width)


def as_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def compact(data: Any) -> str:
    """JSON in one line."""
    return json.dumps(data, ensure_ascii=False)


def complain(message: str) -> None:
    errors().print(f"[red]daas:[/] {escape(message)}")


def say(message: str) -> None:
    """News for a person, not the result."""
    errors().print(escape(message))


def facts(pairs: Mapping[str, Any]) -> None:
    """One thing, a line a fact; what is unknown is left out."""
    known = {name: value for name, value in pairs.items() if value not in (None, "")}
    width = max((len(name) for name in known), default=0)
    for name, value in known.items():
        results().print(f"[dim]{name:{width}}[/]  {escape(str(value))}")


def rows(columns: Sequence[str], found: Iterable[Sequence[Any]], nothing: str) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in found:
        table.add_row(*(escape("" if cell is None else str(cell)) for cell in row))
    if table.row_count:
        results().print(table)
    else:
        say(nothing)


def when(moment: Any) -> str:
    """A time of the API (epoch seconds or ISO 8601 in UTC) as a local one."""
    if moment in (None, ""):
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch_s(moment)))


def epoch_s(moment: Any) -> float:
    return _from_iso(moment) if isinstance(moment, str) else float(moment)


def span(seconds: float) -> str:
    """A length of time as people say it: 0.8 s, 42 s, 3 min 5 s, 2 h 10 min, 3 days."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    if seconds < 48 * 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
    return f"{seconds // 86400:.0f} days"


def _from_iso(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
