"""What the command line makes of the API's answers."""

import json

import httpx
import pytest

from daas.cli import follow, http
from daas.config import settings
from daas.errors import ConfigError


def api(handle, token="daas_secret"):
    return http.Api("http://127.0.0.1:5000", token, httpx.MockTransport(handle))


def problem(status, detail, code="refused"):
    return httpx.Response(status, json={"detail": detail, "code": code})


def test_a_refusal_comes_out_as_the_sentence_that_was_said():
    said = "default already has 10 sessions, its limit; delete one first."

    with pytest.raises(http.ApiRefused, match="delete one first") as caught:
        api(lambda request: problem(429, said, "quota-exceeded")).post("/sessions", {})

    assert (caught.value.status, caught.value.code) == (429, "quota-exceeded")


def test_nobody_there_asks_whether_it_is_running():
    def refuse(request):
        raise httpx.ConnectError("connection refused")

    with pytest.raises(http.ApiAway, match="is `daas serve` running"):
        api(refuse).get("/sessions")


@pytest.mark.parametrize("error", [httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.ReadError])
def test_whatever_breaks_on_the_way_is_one_sentence(error):
    def broken(request):
        raise error("broken")

    with pytest.raises(http.ApiAway, match="http://127"):
        api(broken).get("/sessions")


def test_something_else_on_that_port_is_told_from_a_refusal():
    with pytest.raises(http.ApiRefused, match="is this a daas API"):
        api(lambda request: httpx.Response(404, text="<html>nginx</html>")).get("/sessions")


def test_a_token_that_is_not_accepted_says_where_it_comes_from():
    with pytest.raises(http.ApiRefused, match="DAAS_TOKEN_FILE") as caught:
        api(lambda request: problem(401, "This token is not known.")).get("/sessions")

    assert "daas_secret" not in str(caught.value)


def test_the_token_goes_with_each_request_and_nulls_stay_here():
    seen = []

    def handle(request):
        seen.append((request.headers["Authorization"], json.loads(request.content)))
        return httpx.Response(202, json={})

    api(handle).post("/sessions", {"template": None, "owner": "ada"})

    assert seen == [("Bearer daas_secret", {"owner": "ada"})]


def test_a_list_is_read_to_its_end_but_not_beyond_the_limit():
    def handle(request):
        start = int(request.url.params.get("cursor", 0))
        return httpx.Response(200, json={"items": [start, start + 1], "next": str(start + 2)})

    assert api(handle).all("/sessions", 5) == [0, 1, 2, 3, 4]


def test_server_sent_events_are_read_past_pings():
    text = ': ping\n\nid: 1\nevent: line\ndata: {"text": "one"}\n\ndata: {"text": "two"}\n\n'

    found = list(api(lambda request: httpx.Response(200, text=text)).server_events("/x/logs"))

    assert found == [{"text": "one"}, {"text": "two"}]


def test_what_is_followed_is_followed_without_a_stream_too(monkeypatch):
    monkeypatch.setattr(follow, "POLL_S", 0.01)
    statuses = iter(["requested", "booting", "ready"])

    def handle(request):
        if request.url.path.endswith("/events"):
            return problem(503, "not now")
        return httpx.Response(200, json={"status": next(statuses)})

    seen = follow.changes(api(handle), "/sessions/x", "/sessions/x/events", _is_ready)

    assert [found["status"] for found, _ in seen] == ["requested", "booting", "ready"]


def test_an_api_that_restarts_meanwhile_is_waited_for(monkeypatch):
    monkeypatch.setattr(follow, "POLL_S", 0.01)
    answers = iter([httpx.ConnectError("gone"), problem(503, "not yet"), None])

    def handle(request):
        answer = problem(404, "no stream") if "events" in request.url.path else next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer or httpx.Response(200, json={"status": "ready"})

    seen = list(follow.changes(api(handle), "/sessions/x", "/sessions/x/events", _is_ready))

    assert [found["status"] for found, _ in seen] == ["ready"]


def _is_ready(found):
    return found["status"] == "ready"


# ---- where the token is


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("DAAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "data/secrets").mkdir(parents=True)
    (tmp_path / "home/.config/daas").mkdir(parents=True)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def test_the_nearest_token_wins(places, monkeypatch):
    assert http.find_token() is None

    (places / "home/.config/daas/token").write_text("mine\n")
    assert http.find_token() == "mine"

    (places / "data/secrets/token").write_text("operator\n")
    assert http.find_token() == "operator"

    (places / "file").write_text("from-file\n")
    monkeypatch.setenv("DAAS_TOKEN_FILE", str(places / "file"))
    assert http.find_token() == "from-file"

    monkeypatch.setenv("DAAS_TOKEN", "given")
    assert http.find_token() == "given"


def test_a_token_file_that_is_not_there_is_named(places, monkeypatch):
    monkeypatch.setenv("DAAS_TOKEN_FILE", "/nonexistent")

    with pytest.raises(ConfigError, match="DAAS_TOKEN_FILE: /nonexistent"):
        http.find_token()
