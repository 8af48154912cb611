"""/api/v1/sessions: who may do what, what is refused, and what a caller can rely on."""

import json
import re
from typing import Any

import pytest

from daas.tenants import Tenant
from support.site import Site
from support.waiting import until

ALL = "/api/v1/sessions"


def test_a_desktop_from_request_to_deletion(site: Site) -> None:
    made = site.post("ada", ALL, {"size": "small", "life_s": 3600})
    where = made.headers["Location"]
    until(lambda: site.get("ada", where).json["status"] == "ready")
    ready = site.get("ada", where).json
    site.call("ada", "DELETE", where)
    until(lambda: site.get("ada", where).json["status"] == "deleted")
    gone = site.get("ada", where).json

    assert made.status_code == 202 and made.json["status"] == "requested"
    assert made.json["eta_s"] >= 1 and made.json["rdp"] is None
    assert re.fullmatch(r"desktop-[a-z2-7]{6}", ready["id"])
    assert ready["owner"] == "ada" and ready["tenant"] == "acme" and ready["local_user"] == "ada"
    assert ready["rdp"]["port"] == 3389
    assert re.fullmatch(r"[0-9a-f]{64}", ready["certificate"]["sha256"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", ready["ready_at"])
    assert ready["expires_at"] > ready["created_at"]
    assert ready["node"] is None  # for administrators
    assert gone["rdp"] is None and gone["ended_at"]


def test_prefer_wait_answers_when_it_is_ready(site: Site) -> None:
    made = site.post("ada", ALL, {}, headers={"Prefer": "wait=20"})

    assert made.status_code == 200 and made.json["status"] == "ready"


def test_prefer_wait_answers_in_time_even_if_it_is_not(site: Site) -> None:
    made = site.post("ada", ALL, {"size": "huge"}, headers={"Prefer": "wait=1"})
    name = made.json["id"]
    site.call("ada", "DELETE", f"{ALL}/{name}")

    assert made.status_code == 202
    assert made.json["status"] == "requested"
    assert made.json["position"] == 1 and made.json["eta_s"] >= 1
    assert "room" in made.json["waiting_for"]


def test_each_sees_their_own_and_eve_sees_nothing(site: Site) -> None:
    name = site.desktop("ada")
    where = f"{ALL}/{name}"
    seen = {who: site.get(who, where).status_code for who in ("ada", "ben", "boss", "eve", "op")}
    listed = {
        who: name in [s["id"] for s in site.get(who, f"{ALL}?limit=200").json["items"]]
        for who in seen
    }

    assert seen == {"ada": 200, "ben": 403, "boss": 200, "eve": 404, "op": 200}
    assert listed == {"ada": True, "ben": False, "boss": True, "eve": False, "op": True}
    assert site.get("boss", where).json["node"] == "sim1"


@pytest.mark.parametrize(
    "method,tail",
    [
        ("DELETE", ""),
        ("POST", "/actions/stop"),
        ("POST", "/actions/start"),
        ("POST", "/actions/extend"),
        ("GET", "/credential"),
        ("GET", "/events"),
        ("GET", "/logs"),
    ],
)
def test_nobody_touches_what_is_not_theirs(site: Site, method: str, tail: str) -> None:
    where = f"{ALL}/{site.desktop('ada')}"
    before = site.get("ada", where).json["version"]
    body: dict[str, Any] = {"json": {"life_s": 600}} if tail.endswith("extend") else {}
    codes = [
        site.call(who, method, where + tail, **body).status_code for who in ("ben", "eve", None)
    ]

    assert codes == [403, 404, 401]
    assert site.get("ada", where).json["version"] == before


def test_stop_start_and_extend(site: Site) -> None:
    name = site.desktop("ada")
    where = f"{ALL}/{name}"
    assert site.post("ada", f"{where}/actions/stop").status_code == 202
    until(lambda: site.is_status("ada", name, "stopped"))
    stopped = site.get("ada", where).json
    assert site.post("ada", f"{where}/actions/start").status_code == 202
    until(lambda: site.is_status("ada", name, "ready"))
    extended = site.post("ada", f"{where}/actions/extend", {"life_s": 600})

    assert stopped["rdp"] is None
    assert extended.status_code == 200 and extended.json["expires_at"]


def test_what_is_being_deleted_cannot_be_started(site: Site) -> None:
    where = f"{ALL}/{site.desktop('ada')}"
    site.call("ada", "DELETE", where)
    again = site.call("ada", "DELETE", where)
    refused = site.post("ada", f"{where}/actions/start")

    assert again.status_code == 202
    assert refused.status_code == 409 and refused.json["code"] == "wrong-state"


def test_the_made_up_password_is_for_its_owner_and_not_to_be_kept(site: Site) -> None:
    where = f"{ALL}/{site.desktop('ada')}"
    shown = site.get("ada", f"{where}/credential")
    events = site.get("ada", f"{where}/events").text

    assert shown.json["user"] == "ada" and len(shown.json["password"]) >= 12
    assert shown.headers["Cache-Control"] == "no-store"
    assert shown.json["password"] not in events


def test_a_password_of_ones_own_is_told_to_nobody(site: Site) -> None:
    name = site.desktop("ada", local_user="tom", password="pâss word")
    shown = site.get("ada", f"{ALL}/{name}/credential")

    assert shown.status_code == 409
    assert "pâss word" not in shown.text


def test_the_same_idempotency_key_makes_one_desktop(site: Site) -> None:
    key = {"Idempotency-Key": "order-66"}
    first = site.post("ada", ALL, {"size": "small"}, headers=key)
    again = site.post("ada", ALL, {"size": "small"}, headers=key)
    other = site.post("ada", ALL, {"life_s": 600}, headers=key)
    somebody = site.post("ben", ALL, {"size": "small"}, headers=key)

    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 409)
    assert first.json["id"] == again.json["id"] != somebody.json["id"]
    assert other.json["code"] == "idempotency-key-reused"


def test_reuse_finds_the_running_one(site: Site) -> None:
    name = site.desktop("mallory")
    again = site.post("mallory", ALL, {"reuse": True})
    fresh = site.post("mallory", ALL, {"reuse": False})

    assert again.status_code == 200 and again.json["id"] == name
    assert fresh.json["id"] != name


def test_a_desktop_for_somebody_else_is_for_administrators(site: Site) -> None:
    refused = site.post("ada", ALL, {"owner": "ben"})
    made = site.post("boss", ALL, {"owner": "Ben.D@acme.lan"})

    assert refused.status_code == 403 and refused.json["field"] == "owner"
    assert made.json["owner"] == "Ben.D@acme.lan" and made.json["local_user"] == "ben-d"


def test_a_list_goes_page_by_page_and_misses_none(site: Site) -> None:
    names = {site.post("eve", ALL, {}).json["id"] for _ in range(5)}
    seen: list[str] = []
    path: str | None = f"{ALL}?limit=2&owner=eve&template=desk"
    while path:
        page = site.get("eve", path).json
        assert len(page["items"]) <= 2
        seen += [s["id"] for s in page["items"]]
        path = page["next"] and f"{ALL}?limit=2&owner=eve&cursor={page['next']}"

    assert len(seen) == len(set(seen)) and names <= set(seen)
    assert site.get("op", f"{ALL}?owner=nobody").json["items"] == []
    assert site.get("op", f"{ALL}?template=other").json["items"] == []


def test_a_list_by_status_shows_deleted_ones_only_if_asked(site: Site) -> None:
    name = site.desktop("ada")
    site.call("ada", "DELETE", f"{ALL}/{name}")
    until(lambda: site.is_status("ada", name, "deleted"))
    ids = [
        {s["id"] for s in site.get("ada", f"{ALL}?limit=200{more}").json["items"]}
        for more in ("", "&status=ready", "&status=ready&status=deleted")
    ]

    assert [name in found for found in ids] == [False, False, True]


def test_what_the_caller_has_already_is_not_sent_again(site: Site) -> None:
    where = f"{ALL}/{site.desktop('ada')}"
    tag = site.get("ada", where).headers["ETag"]
    same = site.get("ada", where, headers={"If-None-Match": tag})
    site.post("ada", f"{where}/actions/extend", {"life_s": 900})
    other = site.get("ada", where, headers={"If-None-Match": tag})

    assert tag.startswith('W/"')
    assert same.status_code == 304 and same.data == b""
    assert other.status_code == 200 and other.headers["ETag"] != tag


def test_the_quota_is_said_with_what_to_do(site: Site) -> None:
    with site.database.transaction() as db:
        db.merge(_tenant("evil", 0))
    refused = site.post("eve", ALL, {})
    with site.database.transaction() as db:
        db.merge(_tenant("evil", None))

    assert refused.status_code == 429
    assert refused.json["code"] == "quota-exceeded" and "delete one" in refused.json["detail"]


def test_its_log_is_plain_text_that_ends(site: Site) -> None:
    name = site.desktop("ada")
    log = site.get("ada", f"{ALL}/{name}/logs")

    assert log.content_type.startswith("text/plain")
    assert log.text.splitlines()[0].startswith("placed on sim1")


def test_its_events_go_page_by_page(site: Site) -> None:
    name = site.desktop("ada")
    first = site.get("ada", f"{ALL}/{name}/events?limit=3").json
    rest = site.get("ada", f"{ALL}/{name}/events?after={first['next']}").json

    assert [e["after"] for e in first["items"]] == ["requested", "provisioning", "booting"]
    assert rest["items"][-1]["after"] == "ready"


def test_a_plain_wsgi_server_streams_too(site: Site) -> None:
    where = f"{ALL}/{site.desktop('ada')}"
    site.call("ada", "DELETE", where)
    live = site.get("ada", f"{where}/events", headers={"Accept": "text/event-stream"})
    followed = site.get("ada", f"{where}/logs?follow=true")

    assert live.content_type.startswith("text/event-stream")
    assert live.text.count("id: ") == live.text.count("\n\n") >= 7
    assert '"after": "deleted"' in live.text
    assert followed.status_code == 200


BAD: list[tuple[str, Any]] = [
    ("size", "small; rm -rf /"),
    ("size", 7),
    ("template", "../etc/passwd"),
    ("template", "!!python/object"),
    ("template", "x" * 10_000),
    ("owner", "ada$(reboot)"),
    ("owner", "-ada"),
    ("owner", "a" * 65),
    ("owner", "ada\n"),
    ("owner", "ada\0"),
    ("owner", "\ud800"),
    ("owner", ["ada"]),
    ("local_user", "Root"),
    ("local_user", "root"),
    ("local_user", "systemd-network"),
    ("local_user", "a:b"),
    ("password", "two\nlines"),
    ("password", "x" * 65),
    ("password", ""),
    ("life_s", "600"),
    ("life_s", -1),
    ("life_s", 1e300),
    ("life_s", True),
    ("reuse", "yes"),
    ("reuse", 1),
    ("colour", "red"),
    ("cpus", 999_999),
]


@pytest.mark.parametrize("field,value", BAD, ids=[f"{f}-{n}" for n, (f, _) in enumerate(BAD)])
def test_bad_input_names_the_field_and_makes_nothing(site: Site, field: str, value: Any) -> None:
    before = site.count()
    body = json.dumps({field: value}).encode()
    refused = site.post("boss", ALL, data=body, content_type="application/json")

    assert refused.status_code == 400
    assert refused.content_type == "application/problem+json"
    assert refused.json["field"] == field and refused.json["code"] == "bad-request"
    assert site.count() == before


@pytest.mark.parametrize(
    "body,kind,status",
    [
        (b'{"size": ', "application/json", 400),
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'"{}"', "application/json", 400),
        (b'{"life_s": NaN}', "application/json", 400),
        (b'{"life_s": 1e999}', "application/json", 400),
        (b'{"life_s": ' + b"9" * 5000 + b"}", "application/json", 400),
        (b"\xff\xfe{}", "application/json", 400),
        (b"[" * 50_000, "application/json", 400),
        (b'{"owner": "' + b"a" * 1_000_000 + b'"}', "application/json", 413),
        (b"size=small", "application/x-www-form-urlencoded", 415),
        (b"{}", "text/plain", 415),
    ],
)
def test_bodies_that_are_none(site: Site, body: bytes, kind: str, status: int) -> None:
    before = site.count()
    refused = site.post("ada", ALL, data=body, content_type=kind)

    assert refused.status_code == status
    assert refused.json["status"] == status and refused.json["detail"]
    assert site.count() == before


@pytest.mark.parametrize(
    "query,field",
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=many", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=x", "cursor"),
        ("status=happy", "status.0"),
        ("owner=%00", "owner"),
        ("colour=red", "colour"),
    ],
)
def test_bad_queries_name_the_field(site: Site, query: str, field: str) -> None:
    refused = site.get("ada", f"{ALL}?{query}")

    assert refused.status_code == 400 and refused.json["field"] == field


@pytest.mark.parametrize(
    "name", ["desktop-zzzzzz", "nonsense", "desktop-a;b'c", "%00", "%ED%A0%80"]
)
def test_names_that_are_nobodys(site: Site, name: str) -> None:
    assert site.get("ada", f"{ALL}/{name}").status_code == 404


def test_a_size_or_template_that_is_not_there(site: Site) -> None:
    size = site.post("ada", ALL, {"size": "giant"})
    template = site.post("ada", ALL, {"template": "other"})

    assert size.status_code == 404 and size.json["field"] == "size"
    assert template.status_code == 404


def _tenant(name: str, limit: int | None) -> Any:
    return Tenant(name=name, max_sessions=limit)
