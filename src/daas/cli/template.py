"""`daas template`: what desktops are made from."""

import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
import yaml

from daas.cli import follow, http, render, session
from daas.cli.progress import Steps
from daas.errors import DaasError

OVER = ("built", "failed")
FIRST_BUILD_S = 240.0  # on two cores, before any build was measured
LAST_LINES = 15  # of the log, after a failure

Name = Annotated[str, typer.Argument(metavar="NAME", help="As debian-12-xfce.")]
app = typer.Typer(name="template", help="What desktops are made from.", no_args_is_help=True)


@app.command()
def create(
    file: Annotated[Path, typer.Argument(help="A document as templates/*.yaml.", exists=True)],
    as_json: render.AsJson = False,
) -> None:
    """Make a version of a template from FILE; an unchanged document makes none."""
    try:
        document = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DaasError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise DaasError(f"{file} holds no template: it must be a table of keys.")
    made = http.connect().post("/templates", document)
    if as_json:
        render.as_json(made)
    else:
        render.say(
            f"{made['name']} is at version {made['version']}. Build it: "
            f"daas template build {made['name']}"
        )


@app.command()
def build(
    name: Name,
    provider: Annotated[
        str | None, typer.Option(help="On a cluster of that kind: lxd or proxmox.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Follow it to its end.")] = True,
    as_json: render.AsJson = False,
) -> None:
    """Build the newest version of a template."""
    api = http.connect()
    where = f"?provider={quote(provider)}" if provider else ""
    made = api.post(f"/templates/{name}/builds{where}")
    if wait:
        made = await_built(api, name, made["id"], as_json)
    if as_json:
        render.as_json(made)
    elif not wait:
        render.say(f"{made['id']} is {made['status']}. Its log: daas template logs {name} -f")
    raise typer.Exit(1 if made["status"] == "failed" else 0)


@app.command("list")
def list_(as_json: render.AsJson = False) -> None:
    """List templates with their newest build."""
    found = http.connect().all("/templates")
    if as_json:
        render.as_json(found)
        return
    render.rows(
        ("NAME", "VERSION", "BUILT", "SIZES"),
        ((t["name"], t["version"], _built(t), ", ".join(t["sizes"])) for t in found),
        "There are no templates. Make one: daas template create FILE",
    )


@app.command()
def show(name: Name, as_json: render.AsJson = False) -> None:
    """Show a template and its builds."""
    api = http.connect()
    found = api.get(f"/templates/{name}")
    builds = api.all(f"/templates/{name}/builds", 10)
    if as_json:
        render.as_json({**found, "builds": builds})
        return
    facts = {word: found[word] for word in ("name", "version", "built_version")}
    render.facts({**facts, "title": found["title"].get("en"), "sizes": ", ".join(found["sizes"])})
    render.rows(
        ("BUILD", "VERSION", "STATUS", "BEGAN", "TOOK", "FAILURE"),
        (
            (
                b["id"],
                b["version"],
                b["status"],
                render.when(b.get("started_at")),
                _took(b),
                b.get("failure"),
            )
            for b in builds
        ),
        f"It was never built: daas template build {name}",
    )


@app.command()
def logs(
    name: Name,
    build_id: Annotated[str | None, typer.Option("--build", help="Default: the newest.")] = None,
    follow_: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    as_json: render.AsJson = False,
) -> None:
    """Show what a build said."""
    api = http.connect()
    newest = api.all(f"/templates/{name}/builds", 1) if build_id is None else [{"id": build_id}]
    if not newest:
        raise DaasError(f"{name} was never built: daas template build {name}")
    session.print_logs(api, f"/templates/{name}/builds/{newest[0]['id']}", follow_, as_json)


def await_built(api: http.Api, name: str, build_id: str, is_quiet: bool = False) -> dict[str, Any]:
    """Follow a build to its end. Ctrl-C leaves it going on."""
    path = f"/templates/{name}/builds/{build_id}"
    usual_s = _usual_s(api, name)
    made: dict[str, Any] = {}
    try:
        with Steps(is_quiet) as steps:
            for made, line in follow.changes(
                api, path, f"{path}/logs?follow=true", lambda b: b["status"] in OVER
            ):
                left_s = max(0.0, usual_s - _elapsed_s(made))
                steps.now(f"building {name}", str(line.get("text", ""))[:70], left_s)
    except KeyboardInterrupt:
        render.say(f"\nThe build goes on. Get back to it: daas template build {name}")
        raise
    if made["status"] == "failed" and not is_quiet:
        for line in list(api.server_events(f"{path}/logs"))[-LAST_LINES:]:
            render.say(f"  {line['text']}")
        render.complain(f"{name} was not built: {made.get('failure')}")
    return made


def _usual_s(api: http.Api, name: str) -> float:
    took = [_took_s(b) for b in api.all(f"/templates/{name}/builds", 10)]
    known = sorted(s for s in took if s)
    return known[len(known) // 2] if known else FIRST_BUILD_S


def _elapsed_s(build: dict[str, Any]) -> float:
    began = build.get("started_at")
    return time.time() - render.epoch_s(began) if began else 0.0


def _took_s(build: dict[str, Any]) -> float | None:
    if build["status"] != "built" or not build.get("started_at") or not build.get("ended_at"):
        return None
    return render.epoch_s(build["ended_at"]) - render.epoch_s(build["started_at"])


def _took(build: dict[str, Any]) -> str:
    took_s = _took_s(build)
    return render.span(took_s) if took_s else ""


def _built(template: dict[str, Any]) -> str:
    version = template.get("built_version")
    return f"version {version}" if version else "not yet"
