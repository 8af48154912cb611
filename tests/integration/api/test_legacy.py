"""The contract of version 1.0: exact fields, exact words."""

import re
from pathlib import Path
from typing import Any

import pytest

from daas.api import legacy
from daas.sessions.models import Session
from daas.sessions.states import Status
from daas.tenants import Tenant
from support.site import PEOPLE, Site, make_site
from support.waiting import until

CREATE, DESTROY = "/api/session/create", "/api/session/destroy"


def test_create_answers_when_ready_with_exactly_these_fields(site: Site) -> None:
    body = {"username": "ada", "session_user": "tom", "session_password": "geheim", "extra": [1]}
    made = site.post("ada", CREATE, body)
    name = made.json["session_id"]

    assert made.status_code == 200
    assert made.json == {
        "session_id": name,
        "vm_name": name,
        "vm_ip": made.json["vm_ip"],
        "rdp_port": 3389,
        "username": "ada",
        "session_user": "tom",
        "status": "ready",
        "message": "Desktop prêt ! Connectez-vous en RDP",
    }
    assert re.fullmatch(r"127\.64\.\d+\.\d+", made.json["vm_ip"])
    assert "prêt" in made.text  # as it is, not as \\u00ea
    assert site.get("ada", f"/api/v1/sessions/{name}").json["local_user"] == "tom"


def test_without_session_user_it_is_null_and_the_owner_is_the_local_user(site: Site) -> None:
    made = site.post("boss", CREATE, {"username": "Tom.Dupont"}).json

    assert made["session_user"] is None and made["username"] == "Tom.Dupont"
    session = site.get("boss", f"/api/v1/sessions/{made['session_id']}").json
    assert session["local_user"] == "tom-dupont"


def test_the_list_has_ready_ones_by_id(site: Site) -> None:
    name = site.post("ada", CREATE, {"username": "ada"}).json["session_id"]
    listed = site.get("ada", "/api/sessions").json

    assert listed[name] == {
        "session_id": name,
        "vm_name": name,
        "vm_ip": listed[name]["vm_ip"],
        "username": "ada",
        "created_at": listed[name]["created_at"],
        "status": "active",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", listed[name]["created_at"])
    assert name not in site.get("eve", "/api/sessions").json


def test_destroy_answers_when_it_is_gone(site: Site) -> None:
    name = site.post("ada", CREATE, {"username": "ada"}).json["session_id"]
    gone = site.post("ada", DESTROY, {"session_id": name, "force": True})

    assert gone.status_code == 200
    assert gone.json == {"session_id": name, "status": "destroyed"}
    assert name not in site.get("ada", "/api/sessions").json


def test_respond_async_answers_202_at_once(site: Site) -> None:
    made = site.post("ada", CREATE, {"username": "ada"}, headers={"Prefer": "respond-async"})

    assert made.status_code == 202
    assert made.json["status"] == "requested" and made.json["vm_ip"] is None
    until(lambda: site.is_status("ada", made.json["session_id"], "ready"))


@pytest.mark.parametrize("body", [{}, {"session_id": ""}, {"session_id": None}])
def test_destroy_without_an_id_in_these_very_words(site: Site, body: Any) -> None:
    refused = site.post("ada", DESTROY, body)

    assert refused.status_code == 400
    assert refused.json == {"error": "session_id required"}


@pytest.mark.parametrize(
    "path,body",
    [
        (CREATE, {}),
        (CREATE, {"username": "a;b"}),
        (CREATE, {"username": 7}),
        (CREATE, {"username": "ada", "session_user": "root"}),
        (CREATE, {"username": "ada", "session_password": "a\nb"}),
        (DESTROY, {"session_id": 7}),
        (DESTROY, {"session_id": "desktop-zzzzzz"}),
        (DESTROY, {"session_id": "nonsense\0"}),
    ],
)
def test_a_refusal_is_400_with_an_error(site: Site, path: str, body: Any) -> None:
    refused = site.post("boss", path, body)

    assert refused.status_code == 400
    assert refused.json["error"] and set(refused.json) <= {"error", "details"}


def test_broken_json_is_400_too(site: Site) -> None:
    for options in ({"data": b"{", "content_type": "application/json"}, {"data": b"{}"}):
        refused = site.post("ada", CREATE, **options)

        assert refused.status_code == 400 and refused.json["details"]


def test_somebody_elses_desktop_is_not_destroyed(site: Site) -> None:
    name = site.post("ada", CREATE, {"username": "ada"}).json["session_id"]
    codes = [site.post(who, DESTROY, {"session_id": name}).status_code for who in ("ben", "eve")]

    assert codes == [400, 400]
    assert site.is_status("ada", name, "ready")


def test_where_a_login_is_asked_for_its_lack_is_401(site: Site) -> None:
    refused = site.post(None, CREATE, {"username": "ada"})

    assert refused.status_code == 401
    assert refused.json == {"error": "Unauthorized", "details": refused.json["details"]}


def test_a_full_quota_is_429(site: Site) -> None:
    with site.database.transaction() as db:
        db.merge(Tenant(name="evil", max_sessions=0))
    refused = site.post("eve", CREATE, {"username": "eve"})
    with site.database.transaction() as db:
        db.merge(Tenant(name="evil", max_sessions=None))

    assert refused.status_code == 429
    assert set(refused.json) == {"error", "details"}


def test_a_desktop_that_fails_is_500_with_the_reason(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    site.worker.stop()
    name = site.post("ada", CREATE, {"username": "ada"}, headers={"Prefer": "respond-async"})
    with site.database.transaction() as db:
        row = db.query(Session).filter_by(name=name.json["session_id"]).one()
        row.status, row.failure = Status.FAILED, "The image is gone."
    # The same request waits for the same desktop: asked again through the verb it shares.
    failed = _create_finds(site, name.json["session_id"])

    assert failed.status == 500
    assert b'"error":"Desktop creation failed"' in failed.body.replace(b'": "', b'":"')
    assert b"The image is gone." in failed.body
    site.database.dispose()


def test_a_desktop_that_does_not_come_in_time_is_500_and_goes_on(tmp_path: Path) -> None:
    site = make_site(tmp_path, {"legacy_wait_s": 0.2})
    site.worker.stop()
    late = site.post("ada", CREATE, {"username": "ada"})

    assert late.status_code == 500
    assert late.json["error"] == "Desktop is not ready yet"
    assert len(site.get("ada", "/api/v1/sessions").json["items"]) == 1
    site.database.dispose()


def test_without_authentication_anybody_asks_for_anybody(tmp_path: Path) -> None:
    site = make_site(tmp_path, auth="none")
    made = site.post(None, CREATE, {"username": "tom"})
    listed = site.get(None, "/api/sessions").json

    assert made.status_code == 200 and made.json["username"] == "tom"
    assert list(listed) == [made.json["session_id"]]
    site.worker.stop()
    site.database.dispose()


def _create_finds(site: Site, name: str) -> Any:
    core = site.api.extensions["daas"]
    with site.api.app_context():
        answer = legacy._until_ready(core, PEOPLE["ada"], name).look(False)
    assert answer
    return answer
