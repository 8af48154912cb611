"""`daas doctor`: is everything there that desktops need? Each check says what to do."""

from collections.abc import Iterable

import typer
from rich.markup import escape

from daas.cli import render
from daas.cli.doctor import gather
from daas.cli.doctor.finding import Finding
from daas.config import settings

app = typer.Typer()


@app.command()
def doctor(as_json: render.AsJson = False) -> None:
    """Check this machine and installation; exit code 1 if something fails."""
    found = list(gather.findings(settings()))
    if as_json:
        render.as_json([finding.as_json() for finding in found])
    else:
        show(found)
    raise typer.Exit(1 if any(f.result == "fail" for f in found) else 0)


def show(found: Iterable[Finding]) -> None:
    for finding in found:
        mark = render.MARKS[finding.result]
        render.results().print(f"{mark} [dim]{finding.id:26}[/] {escape(finding.message)}")
        if finding.remedy:
            render.results().print(f"     {'':26} → {escape(finding.remedy)}")
