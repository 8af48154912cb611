"""`daas session`: ask for a desktop, look at it, connect to it, give it back."""

import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from daas.cli import desktop, follow, http, render
from daas.cli.progress import Steps
from daas.errors import DaasError

OVER = ("ready", "failed", "deleted")
SAID = {  # what the work of a status is, for a person
    "requested": "finding room for it",
    "provisioning": "making the machine",
    "booting": "starting it",
    "personalizing": "making it personal",
    "assigning": "handing it over",
    "stopping": "stopping it",
    "starting": "starting it again",
    "deleting": "removing it",
}

Name = Annotated[str, typer.Argument(metavar="SESSION", help="Its id, as desktop-k3x9qa.")]
app = typer.Typer(
    name="session", help="Desktops: ask, look, connect, delete.", no_args_is_help=True
)


@app.command()
def create(
    template: Annotated[str | None, typer.Option(help="What it is made from.")] = None,
    size: Annotated[str | None, typer.Option(help="One of the template's sizes.")] = None,
    owner: Annotated[str | None, typer.Option(help="Whose it is (default: yours).")] = None,
    local_user: Annotated[
        str | None, typer.Option(help="The account made inside (default: after the owner).")
    ] = None,
    life: Annotated[float | None, typer.Option(help="Seconds until it ends by itself.")] = None,
    reuse: Annotated[bool, typer.Option(help="A running desktop will do.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until it is ready.")] = True,
    as_json: render.AsJson = False,
) -> None:
    """Ask for a desktop and wait until it is ready."""
    api = http.connect()
    wish = {"template": template, "size": size, "owner": owner, "life_s": life}
    made = api.post("/sessions", {**wish, "local_user": local_user, "reuse": reuse or None})
    if wait:
        made = await_ready(api, made["id"], as_json)
    if as_json:
        render.as_json(made)
    else:
        _show(made)
        if made["status"] == "ready":
            render.say(f"Connect: daas session connect {made['id']}")
    raise typer.Exit(1 if made["status"] == "failed" else 0)


@app.command("list")
def list_(
    status: Annotated[list[str] | None, typer.Option(help="Only these; may be repeated.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only this person's.")] = None,
    template: Annotated[str | None, typer.Option(help="Only those made from it.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 100,
    as_json: render.AsJson = False,
) -> None:
    """List the desktops you may see, newest first."""
    query = {"status": status, "owner": owner, "template": template}
    found = http.connect().all("/sessions", limit, **query)
    if as_json:
        render.as_json(found)
        return
    render.rows(
        ("ID", "STATUS", "OWNER", "TEMPLATE", "ADDRESS", "SINCE"),
        (
            (s["id"], _status(s), s["owner"], s["template"], desktop.address(s), _since(s))
            for s in found
        ),
        "There are no sessions. Make one: daas session create",
    )


@app.command()
def show(name: Name, as_json: render.AsJson = False) -> None:
    """Show one desktop; one that is being made is followed until it is ready."""
    api = http.connect()
    found = api.get(f"/sessions/{name}")
    if as_json:
        render.as_json(found)
        return
    if found["status"] in SAID and found["status"] != "deleting":
        found = await_ready(api, name)
    _show(found)


@app.command()
def connect(
    name: Name,
    start: Annotated[bool, typer.Option("--start", help="Start xfreerdp now.")] = False,
    password_file: Annotated[
        Path | None, typer.Option(help="Where to put the one-time password (mode 600).")
    ] = None,
    as_json: render.AsJson = False,
) -> None:
    """Show how to connect by RDP, or do it. The password goes to a file, never to a command."""
    api = http.connect()
    found = api.get(f"/sessions/{name}")
    if found["status"] != "ready":
        raise DaasError(f"{name} is {found['status']}, not ready: daas session show {name}")
    login = desktop.credential(api, name)
    args = desktop.command(found, login.username)
    if start:
        desktop.start(args, login.password)
        return
    file = desktop.keep_password(name, login.password, password_file) if login.password else None
    printed = shlex.join(args) + (f" < {shlex.quote(str(file))}" if file else "")
    if as_json:
        known = {"id": name, "rdp": found["rdp"], "username": login.username}
        render.as_json({**known, "password_file": str(file) if file else None, "command": printed})
        return
    render.facts(
        {
            "address": desktop.address(found),
            "user": login.username,
            "password": f"in {file} (mode 600)" if file else "the one you know",
            "certificate": desktop.fingerprint(found),
        }
    )
    print(f"\n{printed}")


@app.command()
def delete(
    name: Name,
    wait: Annotated[bool, typer.Option(help="Wait until nothing is left of it.")] = True,
    as_json: render.AsJson = False,
) -> None:
    """Delete a desktop. Nobody reaches it from now on, and nothing is left of it."""
    api = http.connect()
    found = api.delete(f"/sessions/{name}") or api.get(f"/sessions/{name}")
    desktop.forget_password(name)
    if wait:
        found = _follow(api, name, ("deleted",), as_json)
    if as_json:
        render.as_json(found)
    else:
        render.say(f"{name} is {found['status']}.")


@app.command()
def logs(
    name: Name,
    follow_: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    as_json: render.AsJson = False,
) -> None:
    """Show what was done for a desktop."""
    print_logs(http.connect(), f"/sessions/{name}", follow_, as_json)


def print_logs(api: http.Api, path: str, is_followed: bool, as_json: bool) -> None:
    """The log lines of a session or a build; as JSON, one object a line."""
    for line in api.server_events(f"{path}/logs", follow=str(is_followed).lower()):
        _print_line(line, as_json)


def await_ready(api: http.Api, name: str, is_quiet: bool = False) -> dict[str, Any]:
    """Follow a desktop until it is ready, or failed. Ctrl-C leaves it being made."""
    began = time.monotonic()
    try:
        found = _follow(api, name, OVER, is_quiet)
    except KeyboardInterrupt:
        render.say(f"\n{name} goes on being made. Get back to it: daas session show {name}")
        raise
    if not is_quiet and found["status"] == "ready":
        render.say(f"{name} is ready after {render.span(time.monotonic() - began)}.")
    return found


def _follow(api: http.Api, name: str, over: tuple[str, ...], is_quiet: bool) -> dict[str, Any]:
    path, found = f"/sessions/{name}", dict[str, Any]()
    with Steps(is_quiet) as steps:
        for found, _ in follow.changes(api, path, f"{path}/events", lambda s: s["status"] in over):
            _tell(steps, found)
    return found


def _tell(steps: Steps, found: dict[str, Any]) -> None:
    step = SAID.get(found["status"])
    if step:
        notes = [f"waiting for {found['waiting_for']}"] if found.get("waiting_for") else []
        if found.get("position"):
            notes.append(f"number {found['position']} in line")
        steps.now(step, ", ".join(notes), found.get("eta_s"))


def _show(found: dict[str, Any]) -> None:
    render.facts(
        {
            "id": found["id"],
            "status": _status(found),
            "owner": found["owner"],
            "template": found["template"],
            "address": desktop.address(found),
            "user": found.get("local_user"),
            "node": found.get("node"),
            "created": render.when(found["created_at"]),
            "ready": render.when(found.get("ready_at")),
            "ends": render.when(found.get("expires_at")),
            "certificate": desktop.fingerprint(found),
            "waits for": found.get("waiting_for"),
            "failure": found.get("failure"),
        }
    )


def _status(found: dict[str, Any]) -> str:
    status, wanted = found["status"], found.get("desired")
    is_turning = wanted == "deleted" and status not in ("deleting", "deleted")
    return f"{status} (to be deleted)" if is_turning else str(status)


def _since(found: dict[str, Any]) -> str:
    return render.when(found.get("ready_at") or found["created_at"])


def _print_line(line: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(render.compact(line))
    else:
        print(f"{render.when(line.get('at'))} {line['text']}")
