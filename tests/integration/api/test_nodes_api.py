"""Nodes and capacity: for operators and administrators, by the API and the command line."""

import json

import pytest
from sqlalchemy import select

from daas.cli import capacity as capacity_command
from daas.cli import http, node
from daas.events import Event
from daas.nodes.models import Node
from support.site import Live, Site
from support.waiting import until

NODES, CAPACITY = "/api/v1/nodes", "/api/v1/capacity"


@pytest.fixture(autouse=True)
def _as_it_was(site: Site) -> None:
    """The site is shared: its node takes desktops before each test."""
    until(lambda: site.get("op", NODES).json["items"])
    changes = {"is_maintenance": False, "max_desktops": None}
    site.call("op", "PATCH", f"{NODES}/sim1", json=changes)


def change(site: Site, who: str = "op", **changes: object) -> int:
    return site.call(who, "PATCH", f"{NODES}/sim1", json=changes).status_code


def test_an_operator_sees_the_nodes_and_nobody_else_does(site: Site) -> None:
    (one,) = site.get("op", NODES).json["items"]
    assert (one["name"], one["is_online"], one["cpus"]) == ("sim1", True, 64)
    assert one["free_mib"] <= one["memory_mib"] and one["max_desktops"] is None
    assert [site.get(who, NODES).status_code for who in ("ada", "boss", "mallory")] == [403] * 3


def test_in_maintenance_it_takes_no_new_desktop_and_keeps_those_it_has(site: Site) -> None:
    before = site.desktop("ada")
    assert change(site, is_maintenance=True) == 200
    waits = site.post("ada", "/api/v1/sessions", {}).json["id"]
    until(lambda: site.get("ada", f"/api/v1/sessions/{waits}").json["waiting_for"])
    shown = site.get("ada", f"/api/v1/sessions/{waits}").json
    assert shown["waiting_for"].endswith(": in maintenance (sim1)")
    assert site.is_status("ada", before, "ready")

    change(site, is_maintenance=False)
    until(lambda: site.is_status("ada", waits, "ready"), 5)  # woken, not after a poll of 15 s


def test_a_limit_is_one_until_it_is_taken_away(site: Site) -> None:
    change(site, max_desktops=0)
    assert site.get("boss", CAPACITY).json["nodes"][0]["limited_by"] == "limit"
    change(site, max_desktops=None)
    assert site.get("boss", CAPACITY).json["fits"] > 0


def test_what_is_left_out_of_a_change_stays_as_it_is(site: Site) -> None:
    change(site, max_desktops=7)
    change(site, is_maintenance=True)
    (one,) = site.get("op", NODES).json["items"]
    assert (one["is_maintenance"], one["max_desktops"]) == (True, 7)


def test_only_operators_change_nodes_and_it_is_on_record(site: Site) -> None:
    assert [change(site, who, max_desktops=1) for who in ("ada", "boss")] == [403, 403]
    assert site.call("op", "PATCH", f"{NODES}/no-such", json={}).status_code == 404
    change(site, max_desktops=3)
    with site.database.reading() as db:
        rows = select(Event).where(Event.subject == "node/sim1").order_by(Event.id.desc())
        last = db.scalars(rows.limit(1)).one()
    assert (last.actor, last.after) == ("op", "max_desktops=3")


@pytest.mark.parametrize("body", [{"max_desktops": -1}, {"is_maintenance": "on"}, {"cpus": 3}])
def test_a_change_that_makes_no_sense_is_refused(site: Site, body: dict[str, object]) -> None:
    assert site.call("op", "PATCH", f"{NODES}/sim1", json=body).status_code == 400


def test_capacity_is_for_administrators_and_says_what_limits_it(site: Site) -> None:
    answer = site.get("boss", f"{CAPACITY}?template=desk&size=huge").json
    assert (answer["fits"], answer["limited_by"], answer["cpus"]) == (0, "memory", 1)
    assert answer["fits_one_lost"] == 0 and answer["lost"] == "sim1"
    assert site.get("ada", CAPACITY).status_code == 403
    assert site.get("boss", f"{CAPACITY}?template=no-such").status_code == 404
    assert site.get("boss", f"{CAPACITY}?size=no-such").status_code == 404


def test_capacity_is_what_then_fits(site: Site) -> None:
    change(site, max_desktops=site.get("op", NODES).json["items"][0]["desktops"] + 2)
    assert site.get("boss", CAPACITY).json["fits"] == 2
    for left in (1, 0):
        site.desktop("ada")
        assert site.get("boss", CAPACITY).json["fits"] == left


# ---- the command line


@pytest.fixture
def api(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    made = http.Api(live.url, live.site.tokens["op"])
    monkeypatch.setattr(http, "connect", lambda: made)


def test_daas_node(api: None, capsys: pytest.CaptureFixture[str]) -> None:
    node.limit("sim1", "5")
    node.maintenance("sim1", "on")
    node.list_()
    out = capsys.readouterr()
    assert "sim1 takes at most 5" in out.err and "in maintenance" in out.out
    node.maintenance("sim1", "off", as_json=True)
    assert json.loads(capsys.readouterr().out)["is_maintenance"] is False
    node.limit("sim1", "none")
    for wrong in (lambda: node.limit("sim1", "many"), lambda: node.maintenance("sim1", "maybe")):
        with pytest.raises(Exception, match="Say"):
            wrong()


def test_daas_capacity(api: None, capsys: pytest.CaptureFixture[str]) -> None:
    capacity_command.capacity(template="desk", size="huge")
    out = capsys.readouterr().out
    assert "sim1" in out and "0 more fit; then it is memory." in out and "With sim1 lost" in out
    capacity_command.capacity(as_json=True)
    assert json.loads(capsys.readouterr().out)["template"] == "desk"


def test_the_table_has_the_node(site: Site) -> None:
    with site.database.reading() as db:
        assert db.scalars(select(Node.name)).all() == ["sim1"]
