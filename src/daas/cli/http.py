"""The API as the command line sees it. A refusal comes out as the sentence that the API said."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from daas.config import LOOPBACK, settings
from daas.errors import ConfigError, DaasError

OWN_TOKEN = Path("~/.config/daas/token")
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
SILENCE_S = 90.0  # of a stream; the API sends something far more often


class ApiAway(DaasError):
    """Nobody answers at DAAS_URL."""


class ApiRefused(DaasError):
    """The API said no."""

    def __init__(self, status: int, said: str, code: str = ""):
        super().__init__(said)
        self.status, self.code = status, code


class Api:
    """Paths are relative to /api/v1."""

    def __init__(self, url: str, token: str | None, transport: httpx.BaseTransport | None = None):
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=TIMEOUT,
            transport=transport,
            trust_env=not _is_local(self.url),  # a proxy knows nothing of this machine
        )

    def get(self, path: str, **query: Any) -> Any:
        given = {name: value for name, value in query.items() if value not in (None, [], ())}
        return self._ask("GET", path, params=given)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        given = {name: value for name, value in (body or {}).items() if value is not None}
        return self._ask("POST", path, json=given)

    def patch(self, path: str, changes: dict[str, Any]) -> Any:
        return self._ask("PATCH", path, json=changes)

    def delete(self, path: str) -> Any:
        return self._ask("DELETE", path)

    def all(self, path: str, limit: int = 1000, **query: Any) -> list[Any]:
        """The items of all pages of a list, up to `limit`."""
        found: list[Any] = []
        cursor = None
        while len(found) < limit:
            page = self.get(path, cursor=cursor, **query)
            found += page["items"]
            cursor = page.get("next")
            if not cursor:
                break
        return found[:limit]

    def health(self) -> Any:
        """What /health/ready or /health says, whatever its status code is; ApiAway if nothing."""
        with _heard(self.url):
            return self._http.get("/health").json()

    def lines(self, path: str, accept: str, **query: Any) -> Iterator[str]:
        """The lines of a stream as they come."""
        headers = {"Accept": accept}
        timeout = httpx.Timeout(SILENCE_S, connect=5.0)
        with (
            _heard(self.url),
            self._http.stream(
                "GET", f"/api/v1{path}", headers=headers, params=query, timeout=timeout
            ) as response,
        ):
            if response.is_error:
                response.read()
                raise _refusal(response)
            yield from response.iter_lines()

    def server_events(self, path: str, **query: Any) -> Iterator[Any]:
        """The `data:` of a stream of Server-Sent Events, parsed."""
        for line in self.lines(path, "text/event-stream", **query):
            if line.startswith("data:") and (text := line[5:].strip()):
                yield json.loads(text)

    def _ask(self, method: str, path: str, **given: Any) -> Any:
        with _heard(self.url):
            response = self._http.request(method, f"/api/v1{path}", **given)
        if response.is_error:
            raise _refusal(response)
        return response.json() if response.content else None


def connect() -> Api:
    """The API of DAAS_URL (default: this machine's), with the token of whoever asks."""
    url = os.environ.get("DAAS_URL") or f"http://127.0.0.1:{settings().orchestrator_port}"
    return Api(url, find_token())


def find_token() -> str | None:
    """DAAS_TOKEN, the file DAAS_TOKEN_FILE, what `daas init` left here, or our own file."""
    if token := os.environ.get("DAAS_TOKEN", "").strip():
        return token
    if given := os.environ.get("DAAS_TOKEN_FILE"):
        try:
            return Path(given).read_text().strip()
        except OSError as error:
            raise ConfigError(
                f"DAAS_TOKEN_FILE: {given} cannot be read ({error.strerror})."
            ) from None
    for path in (settings().secrets_dir / "token", OWN_TOKEN.expanduser()):
        try:
            return path.read_text().strip()
        except OSError:  # not installed here, or not ours to read
            continue
    return None


@contextmanager
def _heard(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.ConnectError:
        raise ApiAway(f"Nobody answers at {url}: is `daas serve` running? (DAAS_URL)") from None
    except httpx.TimeoutException:
        raise ApiAway(f"{url} does not answer in time; see `daas doctor` on its machine.") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ApiAway(f"{url} broke off ({type(error).__name__}); try again.") from None


def _refusal(response: httpx.Response) -> ApiRefused:
    try:
        problem = response.json()
        said, code = str(problem["detail"]), str(problem.get("code", ""))
    except (ValueError, KeyError, TypeError):
        said, code = f"{response.url} answered {response.status_code}; is this a daas API?", ""
    if response.status_code == httpx.codes.UNAUTHORIZED:
        said += " This command reads it from DAAS_TOKEN, DAAS_TOKEN_FILE or " + str(OWN_TOKEN) + "."
    return ApiRefused(response.status_code, said, code)


def _is_local(url: str) -> bool:
    return httpx.URL(url).host in LOOPBACK
