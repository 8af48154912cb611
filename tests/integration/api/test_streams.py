"""What lasts, behind a real server: live events, followed logs, answers that wait."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from daas.api import hub
from support.site import Live, make_site, serve
from support.waiting import race, until

SSE = {"Accept": "text/event-stream"}


def told(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The events of a stream, as they come; comments (heartbeats) are left out."""
    event: dict[str, Any] = {}
    for line in lines:
        if not line and event:
            yield event
            event = {}
        elif line and not line.startswith(":"):
            word, _, value = line.partition(": ")
            event[word] = json.loads(value) if word == "data" else value


def test_events_of_a_session_come_live_and_the_stream_ends_with_it(live: Live) -> None:
    name = live.site.desktop()
    path = f"/api/v1/sessions/{name}/events"
    with live.client() as http, http.stream("GET", path, headers=SSE) as response:
        events = told(response.iter_lines())
        seen = []
        for event in events:
            seen.append(event["data"]["after"])
            if event["data"]["after"] == "ready":
                live.site.call("ada", "DELETE", f"/api/v1/sessions/{name}")

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-request-id"]
    assert seen[0] == "requested" and seen[-1] == "deleted"


def test_a_stream_goes_on_after_the_last_id_and_misses_nothing(live: Live) -> None:
    name = live.site.desktop()
    path = f"/api/v1/sessions/{name}/events"
    with live.client() as http:
        first = http.get(path).json()["items"]
        live.site.call("ada", "DELETE", f"/api/v1/sessions/{name}")
        headers = {**SSE, "Last-Event-ID": str(first[2]["seq"])}
        with http.stream("GET", path, headers=headers) as response:
            rest = list(told(response.iter_lines()))
        until(lambda: live.site.is_status("ada", name, "deleted"))
        whole = http.get(path).json()["items"]

    assert [int(e["id"]) for e in rest] == [e["seq"] for e in whole[3:]]


def test_the_stream_of_a_deleted_session_ends_at_once(live: Live) -> None:
    name = live.site.desktop()
    live.site.call("ada", "DELETE", f"/api/v1/sessions/{name}")
    until(lambda: live.site.is_status("ada", name, "deleted"))
    with live.client() as http:
        page = http.get(f"/api/v1/sessions/{name}/events").json()
        path = f"/api/v1/sessions/{name}/events?after={page['next']}"
        rest = http.get(path, headers=SSE)

    assert rest.status_code == 200 and rest.content == b""


def test_the_feed_of_all_events_keeps_tenants_apart(live: Live) -> None:
    with live.client("op") as http:
        start = http.get("/api/v1/events?limit=500").json()["next"]
    names = {who: live.site.desktop(who) for who in ("eve", "ada")}
    mine = {"boss": "ada", "mallory": "eve", "op": "ada"}
    seen: dict[str, list[str]] = {who: [] for who in mine}

    def listen(who: str) -> None:
        path = f"/api/v1/events?after={start}"
        last = f"session/{names[mine[who]]}"
        with live.client(who) as http, http.stream("GET", path, headers=SSE) as response:
            for event in told(response.iter_lines()):
                seen[who].append(event["data"]["subject"])
                if event["data"]["after"] == "deleted" and event["data"]["subject"] == last:
                    return

    threads = [threading.Thread(target=listen, args=(who,), daemon=True) for who in mine]
    for thread in threads:
        thread.start()
    for who in ("eve", "ada"):
        live.site.call(who, "DELETE", f"/api/v1/sessions/{names[who]}")
        until(lambda who=who: live.site.is_status(who, names[who], "deleted"))
    for thread in threads:
        thread.join(10)
    assert not [t for t in threads if t.is_alive()]

    assert set(seen["boss"]) == {f"session/{names['ada']}"}
    assert f"session/{names['eve']}" in seen["mallory"]
    assert f"session/{names['ada']}" not in seen["mallory"]
    assert f"session/{names['ada']}" in seen["op"]


def test_a_build_log_is_followed_to_its_end(live: Live) -> None:
    site = live.site
    build = site.post("op", "/api/v1/templates/desk/builds").json["id"]
    path = f"/api/v1/templates/desk/builds/{build}/logs"
    with live.client("op") as http:
        plain = http.get(f"{path}?follow=true")
        as_sse = http.get(f"{path}?follow=true", headers=SSE)

    assert plain.headers["content-type"].startswith("text/plain")
    assert plain.text.splitlines()[-1] == "sealing it"
    assert [e["data"]["text"] for e in told(iter(as_sse.text.splitlines()))] == (
        plain.text.splitlines()
    )


def test_a_followed_log_shows_new_lines_as_they_come(live: Live) -> None:
    name = live.site.desktop()
    path = f"/api/v1/sessions/{name}/logs?follow=true"
    with live.client() as http, http.stream("GET", path) as response:
        lines = response.iter_lines()
        seen = [next(lines)]
        live.site.post("ada", f"/api/v1/sessions/{name}/actions/stop")
        while seen[-1] != "stopped":
            seen.append(next(lines))

    assert seen[0].startswith("placed on")


def test_who_goes_away_is_forgotten(live: Live) -> None:
    name = live.site.desktop()
    until(lambda: live.listeners() == 0)
    path = f"/api/v1/sessions/{name}/events"
    with live.client() as http, http.stream("GET", path, headers=SSE) as response:
        lines = response.iter_lines()  # kept: a generator that is collected hangs up
        next(lines)
        until(lambda: live.listeners() == 1)

    until(lambda: live.listeners() == 0)


def test_a_create_of_version_1_0_waits_without_a_thread(live: Live) -> None:
    """More of them than the process has threads, at once."""

    def create(i: int) -> Any:
        with live.client() as http:
            return http.post("/api/session/create", json={"username": "ada"}).json()

    made = race(40, create)

    assert [m["status"] for m in made] == ["ready"] * 40
    assert all(m["rdp_port"] == 3389 and m["vm_ip"] for m in made)


def test_destroy_of_version_1_0_answers_when_it_is_gone(live: Live) -> None:
    name = live.site.desktop()
    with live.client() as http:
        answer = http.post("/api/session/destroy", json={"session_id": name})

    assert answer.json() == {"session_id": name, "status": "destroyed"}
    assert live.site.is_status("ada", name, "deleted")


def test_nobody_can_ask_the_shell_to_hold_something(live: Live) -> None:
    headers = {"X-Daas-Hold": '{"kind": "events"}', "Daas.Slot": "x", "Daas-Slot": "x"}
    with live.client() as http:
        answer = http.get("/api/v1/me", headers=headers)

    assert answer.json()["name"] == "ada"


def test_a_body_of_a_megabyte_is_refused_whole_or_in_chunks(live: Live) -> None:
    big = b'{"template": "' + b"x" * 1_000_000 + b'"}'
    headers = {"Content-Type": "application/json"}
    with live.client() as http:
        whole = http.post("/api/v1/sessions", content=big, headers=headers)
        chunked = http.post("/api/v1/sessions", content=iter([big]), headers=headers)

    for answer in (whole, chunked):
        assert answer.status_code == 413
        assert answer.json()["code"] == "body-too-large"


def test_a_small_chunked_body_is_read(live: Live) -> None:
    with live.client() as http:
        headers = {"Content-Type": "application/json"}
        answer = http.post(
            "/api/v1/sessions", content=iter([b'{"si', b'ze": "small"}']), headers=headers
        )

    assert answer.status_code == 202


def test_no_header_tells_what_serves(live: Live) -> None:
    with live.client() as http:
        assert "server" not in http.get("/health").headers


def test_the_server_stops_within_five_seconds_though_streams_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "HEARTBEAT_S", 0.1)
    site = make_site(tmp_path)
    live, thread = serve(site)
    name = site.desktop()
    ended = threading.Event()

    def listen() -> None:
        path = f"/api/v1/sessions/{name}/events"
        with live.client() as http, http.stream("GET", path, headers=SSE) as response:
            lines.extend(response.iter_lines())
        ended.set()

    def create() -> None:
        body = {"username": "ada", "session_user": "ada"}
        with live.client() as http:
            answers.append(http.post("/api/session/create", json=body))

    answers: list[httpx.Response] = []
    lines: list[str] = []
    site.worker.stop()  # so that the create has something to wait for
    for verb in (listen, create):
        threading.Thread(target=verb, daemon=True).start()
    until(lambda: live.listeners() == 2)
    time.sleep(0.3)
    began = time.monotonic()
    live.server.should_exit = True
    thread.join(10)

    assert not thread.is_alive() and time.monotonic() - began < 5
    assert ended.wait(1)
    assert ": ping" in lines  # silence is broken, or proxies would cut it
    until(lambda: bool(answers))
    assert answers[0].status_code == 503
    site.database.dispose()


def test_on_postgresql_it_is_the_same(postgresql: Any, tmp_path: Path) -> None:
    with postgresql.new() as url:
        site = make_site(tmp_path, database_url=url)
        live, thread = serve(site)
        with live.client() as http:
            made = http.post("/api/session/create", json={"username": "ada"}).json()
            path = f"/api/v1/sessions/{made['session_id']}"
            with http.stream("GET", f"{path}/events", headers=SSE) as response:
                http.delete(path)
                seen = [event["data"]["after"] for event in told(response.iter_lines())]
            nul = http.get("/api/v1/sessions?owner=%00")
        live.server.should_exit = True
        thread.join(10)
        site.worker.stop()
        site.database.dispose()

    assert made["status"] == "ready"
    assert seen[-1] == "deleted"
    assert nul.status_code == 400
