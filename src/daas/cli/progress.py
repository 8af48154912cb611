"""The steps of long work on a terminal: what is done, what is being done, how long it has taken
and what remains. Without a terminal it is a line a step."""

import time
from types import TracebackType
from typing import Self

from rich.markup import escape
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from daas.cli import render
from daas.cli.render import span


class Steps:
    """`now(step)` begins a step and ends the one before it."""

    def __init__(self, is_quiet: bool = False):
        self._console = render.errors()
        self._is_live = self._console.is_terminal and not is_quiet
        self._is_quiet = is_quiet
        self._began = time.monotonic()
        self._step, self._step_began = "", self._began
        columns = (SpinnerColumn(), TextColumn("{task.description}"), _Clock())
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._task = self._bar.add_task("", total=None, began=self._began, note="", ends=None)

    def __enter__(self) -> Self:
        if self._is_live:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish()
        if self._is_live:
            self._bar.stop()

    def now(self, step: str, note: str = "", remaining_s: float | None = None) -> None:
        """`step` is being done; `note` says more, `remaining_s` is a guess for the whole work."""
        if step != self._step:
            self._finish()
            self._step, self._step_began = step, time.monotonic()
        ends = None if remaining_s is None else time.monotonic() + remaining_s
        words = escape(step) + (f" [dim]{escape(note)}[/]" if note else "")
        self._bar.update(self._task, description=words, ends=ends)

    def tell(self, line: str) -> None:
        """A line that stays."""
        if not self._is_quiet:
            self._console.print(escape(line))

    def _finish(self) -> None:
        if self._step and not self._is_quiet:
            took = span(time.monotonic() - self._step_began)
            self._console.print(f"  [green]✓[/] {escape(self._step)} [dim]{took}[/]")
        self._step = ""


class _Clock(ProgressColumn):
    def render(self, task: Task) -> Text:
        now_s = time.monotonic()
        text = span(now_s - task.fields["began"])
        if (ends := task.fields["ends"]) is not None:
            text += f", about {max(1.0, ends - now_s):.0f} s left"
        return Text(text, style="dim")
