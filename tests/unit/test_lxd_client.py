"""How LXD's answers become our errors, and what happens when it does not answer."""

import threading
from collections.abc import Callable

import httpx
import pytest

from daas import process
from daas.errors import Refused, Stopped, Unreachable
from daas.providers.lxd.client import LxdClient, find_socket
from daas.providers.lxd.errors import Absent, Busy, Exists, refusal
from daas.providers.lxd.personal import PersonalFiles

Answer = Callable[[httpx.Request], httpx.Response]


def client(answer: Answer) -> LxdClient:
    made = LxdClient("/run/none.socket", httpx.MockTransport(answer))
    made.events.close()  # there is no stream to listen to
    return made


def error(code: int, said: str) -> httpx.Response:
    return httpx.Response(code, json={"type": "error", "error": said, "error_code": code})


@pytest.mark.parametrize(
    "code, said, kind",
    [
        (404, "Instance not found", Absent),
        (500, "Snapshot desktop-a/one does not exist", Absent),
        (409, "This name is taken", Exists),
        (500, 'Instance "desktop-a" already exists', Exists),
        (400, "Instance is busy running a stop operation", Busy),
        (400, "Failed to create operation: A matching non-reusable operation has now", Busy),
        (503, "LXD daemon not ready yet", Unreachable),
        (500, "LXD is shutting down", Unreachable),
        (403, "not authorized", Refused),
        (400, "Failed shutting down instance", Refused),
        (400, "The instance is already running", Refused),
    ],
)
def test_what_lxd_says_becomes_the_error_a_caller_can_act_on(
    code: int, said: str, kind: type[Exception]
) -> None:
    assert type(refusal(code, said)) is kind


@pytest.mark.parametrize("said", ["write: no space left on device", "Disk quota exceeded"])
def test_a_full_pool_is_told_in_words_that_help(said: str) -> None:
    assert "storage pool is full" in str(refusal(400, said))


def test_a_busy_machine_is_tried_again_until_it_is_free() -> None:
    answers = [error(400, "Instance is busy running a stop operation")] * 2
    answers.append(httpx.Response(200, json={"type": "sync", "metadata": {"done": 1}}))

    assert client(lambda _: answers.pop(0)).do("PUT", "/1.0/x") == {"done": 1}
    assert not answers


def test_a_machine_that_stays_busy_is_given_back_as_busy() -> None:
    busy = client(lambda _: error(400, "Instance is busy running a stop operation"))

    with pytest.raises(Busy, match="busy running"):
        busy.do("PUT", "/1.0/x", timeout_s=0.2)


def test_a_step_told_to_stop_does_not_go_on_trying() -> None:
    stop = threading.Event()
    stop.set()
    token = process.stop.set(stop)
    try:
        with pytest.raises(Stopped):
            client(lambda _: error(400, "Instance is busy running a stop")).do("PUT", "/1.0/x")
    finally:
        process.stop.reset(token)


def running(request: httpx.Request) -> httpx.Response:
    metadata = {"id": "one", "status_code": 103, "status": "Running"}
    return httpx.Response(202, json={"type": "async", "metadata": metadata})


def test_an_operation_that_failed_raises_what_lxd_said_of_it() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "/wait" not in request.url.path:
            return running(request)
        failed = {"id": "one", "status_code": 400, "status": "Failure", "err": "no such thing"}
        return httpx.Response(200, json={"type": "sync", "metadata": failed})

    with pytest.raises(Refused, match="no such thing"):
        client(answer).do("POST", "/1.0/instances", {})


def test_an_operation_that_lxd_forgot_in_a_restart_is_not_taken_for_done() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return error(404, "not found") if "/wait" in request.url.path else running(request)

    with pytest.raises(Unreachable, match="lost sight"):
        client(answer).do("POST", "/1.0/instances", {})


def test_an_operation_that_never_ends_is_not_waited_for_for_ever() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=running(request).json())

    with pytest.raises(Unreachable, match="in time"):
        client(answer).do("POST", "/1.0/instances", {}, timeout_s=0.2)


@pytest.mark.parametrize(
    "fault, says",
    [
        (httpx.ReadTimeout("slow"), "does not answer in time"),
        (httpx.ConnectError("[Errno 13] Permission denied"), "add it to the group lxd"),
        (httpx.ConnectError("[Errno 111] Connection refused"), "nothing listens"),
        (httpx.RemoteProtocolError("Server disconnected"), "nothing listens"),
    ],
)
def test_whatever_keeps_lxd_from_answering_is_unreachable_and_says_why(
    fault: Exception, says: str
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise fault

    with pytest.raises(Unreachable, match=says):
        client(answer).request("GET", "/1.0")


def test_a_missing_socket_names_where_it_was_looked_for() -> None:
    with pytest.raises(Unreachable, match=r"no socket at /run/none\.socket"):
        find_socket("/run/none.socket")


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b"])
def test_a_name_cannot_lead_out_of_the_folder_of_personal_files(name: str, tmp_path: str) -> None:
    with pytest.raises(Refused, match="no name"):
        PersonalFiles(tmp_path).remove(name)
