"""`daas token`: who may speak to the API."""

import os
from pathlib import Path
from typing import Annotated

import typer

from daas.cli import http, render

app = typer.Typer(name="token", help="API tokens.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who it speaks for, as `ada`.")],
    role: Annotated[str, typer.Option(help="user, admin or operator.")] = "user",
    tenant: Annotated[str | None, typer.Option(help="Default: yours.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Write it there (mode 600) instead of showing it.")
    ] = None,
    as_json: render.AsJson = False,
) -> None:
    """Make a token. It is shown this once and kept nowhere in clear."""
    made = http.connect().post("/tokens", {"name": name, "role": role, "tenant": tenant})
    text = made["token"]
    if file:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(text + "\n")
        made = {**made, "token": None, "file": str(file)}
    if as_json:
        render.as_json(made)
    elif file:
        render.say(f"The token of {name} is in {file}; its id is {made['id']}.")
    else:
        render.say(f"The token of {name} ({made['id']}), shown this once:\n")
        print(text)


@app.command("list")
def list_(as_json: render.AsJson = False) -> None:
    """List tokens by id; their texts are nowhere."""
    found = http.connect().all("/tokens")
    if as_json:
        render.as_json(found)
        return
    columns = ("ID", "FOR", "ROLE", "TENANT", "CREATED", "REVOKED")
    render.rows(
        columns,
        (
            (
                t["id"],
                t["name"],
                t["role"],
                t["tenant"],
                render.when(t["created_at"]),
                render.when(t.get("revoked_at")),
            )
            for t in found
        ),
        "There are no tokens.",
    )


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As in `daas token list`.")],
    as_json: render.AsJson = False,
) -> None:
    """Revoke a token: from now on it opens nothing."""
    made = http.connect().delete(f"/tokens/{token_id}")
    if as_json:
        render.as_json(made or {"id": token_id})
    else:
        render.say(f"{token_id} opens nothing any more.")
