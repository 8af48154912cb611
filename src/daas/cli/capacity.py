"""`daas capacity [TEMPLATE]`: how many desktops still fit."""

from typing import Annotated

import typer

from daas.cli import http, render

app = typer.Typer()


@app.command()
def capacity(
    template: Annotated[str | None, typer.Argument(help="Default: the installation's.")] = None,
    size: Annotated[str | None, typer.Option(help="Default: the template's.")] = None,
    as_json: render.AsJson = False,
) -> None:
    """Say how many desktops still fit, also with one node lost, and what limits it."""
    found = http.connect().get("/capacity", template=template, size=size)
    if as_json:
        render.as_json(found)
        return
    rows = ((n["node"], n["desktops"], n["fits"], n["limited_by"]) for n in found["nodes"])
    render.rows(("NODE", "DESKTOPS", "MORE FIT", "LIMITED BY"), rows, "No node was found yet.")
    made_of = f"{found['cpus']} cores, {found['memory_mib']} MiB each"
    print(f"{found['template']} ({found['size']}; {made_of})")
    print(f"{found['fits']} more fit; then it is {found['limited_by']}.")
    if found["lost"]:
        more = found["fits_one_lost"]
        print(f"With {found['lost']} lost and its desktops made again elsewhere: {more} more.")
