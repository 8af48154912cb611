"""Templates and builds, tokens, events, health, the home page, and the document itself."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import flask_openapi3_swagger
import pytest
from flask.testing import FlaskClient
from sqlalchemy import text, update

import daas.db
from daas.api import create_app, document
from daas.errors import ConfigError
from daas.jobs.models import Job
from daas.nodes.models import Node
from support.site import DESKTOP, Site, make_site
from support.waiting import until
from support.world import settings as make_settings

TEMPLATES = "/api/v1/templates"


def named(name: str, **changes: Any) -> dict[str, Any]:
    return {**DESKTOP, "name": name, **changes}


# ---- templates


def test_a_template_is_written_built_and_used(site: Site) -> None:
    written = site.post("op", TEMPLATES, named("kde"))
    before = site.post("ada", "/api/v1/sessions", {"template": "kde"})
    build = site.post("op", f"{TEMPLATES}/kde/builds")
    where = build.headers["Location"]
    until(lambda: site.get("ada", where).json["status"] == "built")
    log = site.get("ada", f"{where}/logs")

    assert written.status_code == 201 and written.json["version"] == 1
    assert written.json["built_version"] is None
    assert before.status_code == 409 and "daas template build kde" in before.json["detail"]
    assert build.status_code == 202
    assert log.text.splitlines()[0] == "unpacking the base"
    assert site.get("ada", f"{TEMPLATES}/kde").json["built_version"] == 1
    assert site.desktop("ada", template="kde")


def test_the_same_document_is_no_new_version(site: Site) -> None:
    first = site.post("op", TEMPLATES, named("twice"))
    same = site.post("op", TEMPLATES, named("twice"))
    other = site.post("op", TEMPLATES, named("twice", packages=["vim"]))

    assert [r.status_code for r in (first, same, other)] == [201, 200, 201]
    assert [r.json["version"] for r in (first, same, other)] == [1, 1, 2]


def test_a_tenants_template_is_seen_by_that_tenant_only(site: Site) -> None:
    made = site.post("boss", TEMPLATES, named("acme-desk"))
    codes = {who: site.get(who, f"{TEMPLATES}/acme-desk").status_code for who in ("ada", "eve")}

    assert made.json["tenant"] == "acme"
    assert codes == {"ada": 200, "eve": 404}
    listed = site.get("eve", TEMPLATES).json["items"]
    assert "acme-desk" not in [t["name"] for t in listed]
    assert "desk" in [t["name"] for t in listed]


def test_writing_and_building_is_for_administrators(site: Site) -> None:
    assert site.post("ada", TEMPLATES, named("mine")).status_code == 403
    assert site.post("ada", f"{TEMPLATES}/desk/builds").status_code == 403
    assert site.get("op", f"{TEMPLATES}/mine").status_code == 404


@pytest.mark.parametrize(
    "change,field,status",
    [
        ({"name": "a b"}, "name", 400),
        ({"name": None}, "name", 400),
        ({"packages": ["vim; reboot"]}, "packages.0", 400),
        ({"keyboard": "{{ lookup('pipe', 'id') }}"}, "keyboard", 400),
        ({"sizes": {}}, "sizes", 400),
        ({"sizes": {"small": {"cpus": "4", "memory_mib": 512, "disk_gib": 4}}}, None, 400),
        ({"sizes": {"small": {"cpus": 10**9, "memory_mib": 512, "disk_gib": 4}}}, None, 400),
        ({"variables": {"x": "a\0b"}}, "variables.x", 400),
        ({"colour": "red"}, "colour", 400),
        ({"default_size": "other"}, "body", 409),
        ({"base": {"kind": "cloud-image"}}, "base", 409),
    ],
)
def test_a_bad_document_names_the_field(
    site: Site, change: dict[str, Any], field: str | None, status: int
) -> None:
    refused = site.post("op", TEMPLATES, {**named("bad"), **change})

    assert refused.status_code == status
    assert refused.json["field"] == field if field else refused.json["field"].startswith("sizes")
    assert site.get("op", f"{TEMPLATES}/bad").status_code == 404


def test_a_build_is_for_a_cluster_of_a_kind_or_says_how_to_have_one(site: Site) -> None:
    here = site.post("op", f"{TEMPLATES}/desk/builds?provider=simulated")
    other = site.post("op", f"{TEMPLATES}/desk/builds?provider=proxmox")
    wrong = site.post("op", f"{TEMPLATES}/desk/builds?provider=vmware")
    nowhere = site.post("op", f"{TEMPLATES}/desk/builds?cluster=moon")

    assert here.status_code == 202
    assert other.status_code == 404 and "DAAS_PROVIDER=proxmox" in other.json["detail"]
    assert wrong.status_code == 400 and nowhere.status_code == 404


def test_builds_of_a_template_are_its_own(site: Site) -> None:
    build = site.get("op", f"{TEMPLATES}/desk/builds").json["items"][-1]["id"]

    assert site.get("ada", f"{TEMPLATES}/desk/builds/{build}").json["status"] == "built"
    assert site.get("ada", f"{TEMPLATES}/other/builds/{build}").status_code == 404
    assert site.get("ada", f"{TEMPLATES}/desk/builds/build-aaaaaa").status_code == 404


# ---- tokens


def test_a_token_is_shown_once_and_opens_nothing_once_revoked(site: Site) -> None:
    made = site.post("op", "/api/v1/tokens", {"name": "zoe", "tenant": "acme"})
    headers = {"Authorization": f"Bearer {made.json['token']}"}
    me = site.get(None, "/api/v1/me", headers=headers)
    listed = site.get("op", "/api/v1/tokens")
    revoked = site.call("op", "DELETE", f"/api/v1/tokens/{made.json['id']}")
    after = site.get(None, "/api/v1/me", headers=headers)

    assert made.status_code == 201 and made.headers["Cache-Control"] == "no-store"
    assert me.json == {"name": "zoe", "tenant": "acme", "role": "user", "auth": "token"}
    assert made.json["token"] not in listed.text and made.json["id"] in listed.text
    assert revoked.status_code == 204
    assert after.status_code == 401 and after.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "who,body,status",
    [
        ("ada", {}, 201),
        ("ada", {"name": "ben"}, 403),
        ("ada", {"role": "admin"}, 403),
        ("boss", {"name": "ben"}, 201),
        ("boss", {"role": "operator"}, 403),
        ("boss", {"name": "eve", "tenant": "evil"}, 403),
        ("op", {"name": "eve", "tenant": "evil", "role": "admin"}, 201),
        ("op", {"tenant": "nowhere"}, 404),
        ("op", {"role": "king"}, 400),
        ("op", {"name": "a b"}, 400),
    ],
)
def test_nobody_gives_more_than_they_have(
    site: Site, who: str, body: dict[str, Any], status: int
) -> None:
    assert site.post(who, "/api/v1/tokens", body).status_code == status


def test_tokens_of_others_are_not_revoked(site: Site) -> None:
    mine = site.post("ada", "/api/v1/tokens", {}).json["id"]
    codes = [
        site.call(who, "DELETE", f"/api/v1/tokens/{mine}").status_code for who in ("ben", "eve")
    ]

    assert codes == [403, 404]
    assert mine not in site.get("ben", "/api/v1/tokens").text


@pytest.mark.parametrize("sent", ["", "Basic YTpi", "Bearer", "Bearer nonsense", "Bearer \x7f"])
def test_what_is_no_token_is_401(site: Site, sent: str) -> None:
    refused = site.get(None, "/api/v1/sessions", headers={"Authorization": sent})

    assert refused.status_code == 401 and refused.json["code"] == "unauthorized"


# ---- events


def test_the_record_is_for_administrators_of_each_tenant(site: Site) -> None:
    names = {who: site.desktop(who) for who in ("ada", "eve")}
    until(lambda: names["eve"] in site.get("op", "/api/v1/events?limit=500").text)
    seen = {}
    for who in ("boss", "mallory", "op"):
        items, after = [], 0
        while page := site.get(who, f"/api/v1/events?limit=500&after={after}").json["items"]:
            items += page
            after = page[-1]["seq"]
        seen[who] = {event["subject"].partition("/")[2] for event in items}

    assert site.get("ada", "/api/v1/events").status_code == 403
    assert names["ada"] in seen["boss"] and names["eve"] not in seen["boss"]
    assert names["eve"] in seen["mallory"] and names["ada"] not in seen["mallory"]
    assert set(names.values()) <= seen["op"]


# ---- health


def test_health_tells_of_each_part(site: Site) -> None:
    until(lambda: site.get(None, "/health").json["status"] == "ok")
    parts = {p["name"]: p["ok"] for p in site.get(None, "/health").json["parts"]}

    assert parts == {"database": True, "schema": True, "worker": True, "nodes": True}
    assert site.get(None, "/health/live").json == {"status": "ok"}
    assert site.get(None, "/health/ready").status_code == 200


def test_health_notices_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site(tmp_path)
    until(lambda: site.get(None, "/health").json["status"] == "ok")
    site.worker.stop()

    def parts() -> dict[str, bool]:
        return {p["name"]: p["ok"] for p in site.get(None, "/health").json["parts"]}

    with site.database.transaction() as db:
        db.execute(update(Node).values(is_online=False))
    assert parts()["nodes"] is False
    assert site.get(None, "/health/ready").status_code == 200  # a create would wait for it
    with site.database.transaction() as db:
        db.execute(update(Job).values(run_at=daas.db.now() - 60))
    assert parts()["worker"] is False
    refused = site.get(None, "/health/ready")
    assert refused.status_code == 503 and refused.headers["Retry-After"]
    assert "daas worker" in refused.json["detail"]
    with site.database.transaction() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    assert parts()["schema"] is False
    with site.database.transaction() as db:
        db.execute(text("DROP TABLE nodes"))
    assert site.get(None, "/health").json["status"] == "down"
    assert site.get(None, "/health/live").status_code == 200
    site.database.dispose()


# ---- the rest


def test_the_home_page_speaks_the_readers_language(site: Site) -> None:
    french = site.get(None, "/", headers={"Accept-Language": "fr-FR,fr;q=0.9,en;q=0.5"})
    english = site.get(None, "/")

    for page in (french, english):
        assert "<h1>Orchestrateur DaaS</h1>" in page.text
        assert "http" not in re.sub(r"http-equiv", "", page.text)  # it loads nothing from anywhere
    assert 'lang="fr"' in french.text and "Bureaux" not in english.text
    assert 'lang="en"' in english.text


def test_the_browsable_page_loads_nothing_from_elsewhere(site: Site) -> None:
    page = site.get(None, "/openapi/swagger").text
    sources = re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    folder = Path(flask_openapi3_swagger.__file__).parent / "templates"

    assert len(sources) >= 4
    for source in sources:
        assert not source.startswith(("http", "//"))
        assert site.get(None, f"/openapi/{source}").status_code == 200
        assert (folder / source).exists()
    styles = (folder / "swagger/css/swagger-ui.css").read_text()
    assert not re.findall(r"url\([\"']?(?:https?:)?//|@import", styles)
    # The page's own check of documents on another machine is off.
    assert '"validatorUrl": null' in page or "validatorUrl\\u0022: null" in page


def test_the_document_is_openapi_3_1_and_names_every_route(site: Site) -> None:
    served = site.get(None, "/openapi/openapi.json").json
    rules = {
        re.sub(r"<([^>]+)>", r"{\1}", rule.rule)
        for rule in site.api.url_map.iter_rules()
        if rule.rule.startswith(("/api/v1", "/health"))
    }

    assert served["openapi"].startswith("3.1")
    assert set(served["paths"]) == rules
    assert served == document()
    public = [
        p for p, ops in served["paths"].items() for o in ops.values() if not o.get("security")
    ]
    assert sorted(public) == ["/health", "/health/live", "/health/ready"]


def test_a_request_keeps_its_id(site: Site) -> None:
    given = site.get("ada", "/api/v1/me", headers={"X-Request-Id": "trace-1"})
    forged = site.get("ada", "/api/v1/me", headers={"X-Request-Id": "a b\x01"})
    refused = site.get("ada", "/nothing", headers={"X-Request-Id": "trace-2"})

    assert given.headers["X-Request-Id"] == "trace-1"
    assert re.fullmatch(r"[0-9a-f]{16}", forged.headers["X-Request-Id"])
    assert refused.json["request_id"] == "trace-2"


def test_wrong_methods_and_addresses(site: Site) -> None:
    wrong = site.call("ada", "PATCH", "/api/v1/sessions")
    nowhere = site.get("ada", "/api/v1/nothing")

    assert wrong.status_code == 405 and "POST" in wrong.headers["Allow"]
    assert wrong.json["code"] == "method-not-allowed"
    assert nowhere.status_code == 404 and nowhere.content_type == "application/problem+json"


def test_an_unexpected_error_says_nothing_of_itself(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret-word")

    monkeypatch.setattr("daas.api.sessions.queries.listed", broken)
    answer = site.get("ada", "/api/v1/sessions")

    assert answer.status_code == 500 and answer.json["code"] == "internal"
    assert "secret-word" not in answer.text


def test_a_database_that_is_away_is_503_and_back(site: Site, monkeypatch: Any) -> None:
    with monkeypatch.context() as m:
        m.setattr(site.database, "reading", _away)
        away = site.get("ada", "/api/v1/sessions")
        health = site.get(None, "/health")
        home = site.get(None, "/")
    back = site.get("ada", "/api/v1/sessions")

    assert away.status_code == 503 and away.headers["Retry-After"] == "2"
    assert health.json["status"] == "down"
    assert home.status_code == 200 and "does not answer" in home.text
    assert back.status_code == 200


def test_nothing_installed_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="daas init"):
        create_app(make_settings(data_dir=tmp_path))


@pytest.mark.parametrize("trial", [{"auth": "none"}, {"flask_env": "development"}])
def test_a_trial_needs_no_installation(tmp_path: Path, trial: dict[str, Any]) -> None:
    api = create_app(make_settings(data_dir=tmp_path, **trial))
    client: FlaskClient = api.test_client()

    assert client.get("/").status_code == 200
    expected = 200 if trial.get("auth") else 401
    assert client.get("/api/v1/sessions").status_code == expected


def test_importing_a_part_of_the_api_builds_no_app(tmp_path: Path) -> None:
    """In a process of its own, where nothing is installed: to build one would fail."""
    code = "import daas.api.sessions, daas.api; assert 'app' not in vars(daas.api)"
    environ = {**os.environ, "DAAS_DATA_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, timeout=60, check=False)

    assert done.returncode == 0


def _away() -> Any:
    raise daas.errors.NotReady("The database does not answer as it should: is it running?")
