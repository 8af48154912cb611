"""`daas node`: the hypervisor hosts, for operators."""

from typing import Annotated, Any

import typer

from daas.cli import http, render
from daas.errors import DaasError

Name = Annotated[str, typer.Argument(metavar="NODE", help="As in `daas node list`.")]
app = typer.Typer(name="node", help="Hypervisor hosts.", no_args_is_help=True)


@app.command("list")
def list_(as_json: render.AsJson = False) -> None:
    """List the nodes with what is promised of them."""
    found = http.connect().get("/nodes")["items"]
    if as_json:
        render.as_json(found)
        return
    columns = ("NODE", "STATE", "DESKTOPS", "LIMIT", "CORES", "MEMORY", "FREE", "OTHERS")
    render.rows(columns, (_row(n) for n in found), "No node was found yet: see `daas doctor`.")


@app.command()
def maintenance(
    name: Name,
    state: Annotated[str, typer.Argument(metavar="on|off")],
    as_json: render.AsJson = False,
) -> None:
    """Take no new desktop on a node, or do again. Those that are there stay."""
    if state not in ("on", "off"):
        raise DaasError(f"Say on or off, not {state}.")
    _change(name, {"is_maintenance": state == "on"}, as_json)


@app.command()
def limit(
    name: Name,
    count: Annotated[str, typer.Argument(metavar="N|none", help="none: as many as fit.")],
    as_json: render.AsJson = False,
) -> None:
    """Take at most N desktops on a node."""
    if count != "none" and not count.isdecimal():
        raise DaasError(f"Say a number or none, not {count}.")
    _change(name, {"max_desktops": None if count == "none" else int(count)}, as_json)


def _change(name: str, changes: dict[str, Any], as_json: bool) -> None:
    made = http.connect().patch(f"/nodes/{name}", changes)
    if as_json:
        render.as_json(made)
        return
    most = made["max_desktops"]
    limits = "as many as fit" if most is None else f"at most {most}"
    takes = "no new desktops (in maintenance)" if made["is_maintenance"] else limits
    render.say(f"{name} takes {takes}; {made['desktops']} are on it.")


def _row(n: dict[str, Any]) -> tuple[Any, ...]:
    state = "online" if n["is_online"] else f"offline: {n['why'] or 'does not answer'}"
    return (
        n["name"],
        f"{state}, in maintenance" if n["is_maintenance"] else state,
        n["desktops"],
        n["max_desktops"],
        n["cpus"],
        _gib(n["memory_mib"]),
        _gib(n["free_mib"]),
        _gib(n["foreign_mib"]),
    )


def _gib(mib: int) -> str:
    return f"{mib / 1024:.1f} GiB"
