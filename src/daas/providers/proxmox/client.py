"""Proxmox VE's API by proxmoxer. Every call has a timeout; whatever keeps Proxmox from answering
is Unreachable. What only looks is tried again; what changes something never blindly."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from proxmoxer import ProxmoxAPI, ResourceException  # type: ignore[import-untyped]
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from daas import process
from daas.errors import ConfigError, Stopped, Unreachable
from daas.providers.proxmox import errors
from daas.providers.proxmox.errors import Glitch, Unexplained

CONNECT_S, ANSWER_S = 5.0, 40.0  # a call may wait 10 s for a lock, and on a peer for 30
DEAD_S = 60.0  # an API node that did not answer is tried last for so long
PAUSES_S = (0.2, 0.5, 1.0)  # between tries of what only looks
NEVER_SENT = (NewConnectionError, ConnectTimeoutError, NameResolutionError)

log = logging.getLogger(__name__)
# It writes request bodies, with all secrets in them, as INFO: whatever our own level is.
logging.getLogger("proxmoxer").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Access:
    """How to reach one cluster: any of `urls` will do."""

    urls: tuple[str, ...]
    token_id: str  # "daas@pve!orchestrator"
    token_secret: str = field(repr=False)
    ca_file: str | None = None
    is_insecure: bool = False


def nothing(call: str) -> None:
    """For `heard` where nobody listens."""


class Client:
    """Safe to share between threads: each has connections of its own. `heard` is told of each
    call that Proxmox has answered."""

    def __init__(self, access: Access, heard: Callable[[str], None] = nothing):
        self.access, self._heard = access, heard
        self._dead_until: dict[str, float] = {}
        self._local = threading.local()
        self._user, self._token = _token(access.token_id)
        if access.is_insecure:
            log.warning(
                "The certificate of Proxmox's API is not verified (DAAS_PROXMOX_TLS_INSECURE): "
                "whoever stands between here and there can read the token and all it may do."
            )

    @property
    def url(self) -> str:
        """The API node to use now: the first that is not known to be dead."""
        return self.in_order()[0]

    def is_silent(self, url: str) -> None:
        """From now on, and for a while, the others are asked first."""
        self._dead_until[url] = time.monotonic() + DEAD_S

    def get(self, path: str, /, **params: Any) -> Any:
        """Return what is there; tried again for a moment where the fault is not ours."""
        for pause_s in PAUSES_S:
            try:
                return self._send("GET", path, params)
            except (Glitch, Unreachable, Unexplained):  # nothing was asked: it may pass
                pass
            if process.stop.get().wait(pause_s):
                raise Stopped(path)
        return self._send("GET", path, params)

    def post(self, path: str, data: Mapping[str, Any] | None = None) -> Any:
        """Return the answer, as a rule a task. After Unreachable it may have been carried out."""
        return self._send("POST", path, data or {})

    def put(self, path: str, data: Mapping[str, Any]) -> Any:
        return self._send("PUT", path, data)

    def delete(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        return self._send("DELETE", path, params or {})

    def _send(self, method: str, path: str, params: Mapping[str, Any]) -> Any:
        last: Exception | None = None
        for url in self.in_order():
            try:
                answer = self._call(url, method, path, params)
            except requests.RequestException as error:
                self.is_silent(url)
                last = _why(error, url)
                if method != "GET" and not was_never_sent(error):
                    raise last from error
                continue
            self._dead_until.pop(url, None)
            return answer
        assert last
        raise last

    def _call(self, url: str, method: str, path: str, params: Mapping[str, Any]) -> Any:
        resource = self._api(url)(path)
        verb = getattr(resource, method.lower())
        what = f"{method} {path}"
        try:
            answer = verb(**params)
        except ResourceException as error:
            self._heard(what)
            said = str(error.content).removesuffix(f" - {error.errors}")
            raise errors.refusal(int(error.status_code), said, what, error.errors) from None
        self._heard(what)
        return answer

    def _api(self, url: str) -> ProxmoxAPI:
        known: dict[str, ProxmoxAPI] = self._local.__dict__.setdefault("apis", {})
        if url not in known:
            known[url] = self._connect(url)
        return known[url]

    def _connect(self, url: str) -> ProxmoxAPI:
        parts = urlsplit(url)
        prefix = parts.path.strip("/").removesuffix("api2/json").strip("/")
        return ProxmoxAPI(
            parts.hostname,
            port=parts.port or 8006,
            user=self._user,
            token_name=self._token,
            token_value=self.access.token_secret,
            verify_ssl=not self.access.is_insecure and (self.access.ca_file or True),
            timeout=(CONNECT_S, ANSWER_S),
            path_prefix=prefix or None,
        )

    def in_order(self) -> list[str]:
        """The API nodes, those that did not answer lately last."""
        now = time.monotonic()
        return sorted(self.access.urls, key=lambda url: self._dead_until.get(url, 0.0) > now)


def addresses(urls: str) -> tuple[str, ...]:
    """Return the single URLs of PROXMOX_URL, without the path of the API."""
    found = [one.strip().rstrip("/") for one in urls.split(",") if one.strip()]
    if not found:
        raise ConfigError("PROXMOX_URL is not set: write https://NODE:8006, a comma between more.")
    for one in found:
        parts = urlsplit(one)
        if parts.scheme != "https" or not parts.hostname:
            raise ConfigError(f"PROXMOX_URL: {one} is no https:// address of a Proxmox node.")
    return tuple(one.removesuffix("/api2/json") for one in found)


def _token(token_id: str) -> tuple[str, str]:
    user, _, name = token_id.partition("!")
    if "@" not in user or not name:
        raise ConfigError(
            f"DAAS_PROXMOX_TOKEN_ID: {token_id!r} is no token; write it as USER@REALM!NAME."
        )
    return user, name


def was_never_sent(error: requests.RequestException) -> bool:
    cause = error.args[0] if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(
        getattr(cause, "reason", cause), NEVER_SENT
    )


def _why(error: requests.RequestException, url: str) -> Exception:
    host = urlsplit(url).netloc
    if isinstance(error, requests.exceptions.SSLError) and errors.CERTIFICATE.search(str(error)):
        return errors.wrong_certificate(host, str(error))
    if isinstance(error, requests.Timeout):
        return Unreachable(errors.RETRY_S, f"Proxmox, which does not answer in time on {host}")
    return Unreachable(errors.RETRY_S, f"Proxmox: nothing answers on {host}; is the node up?")
