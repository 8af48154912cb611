"""Who sent a request: API tokens, tickets with their CSRF token, passwords.

Passwords are kept as they are given in the world file or set by a call: this is no real system.
A ticket has the form of a real one and is signed with a key of this simulation.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from urllib.parse import unquote

from pve_simulator.access.directory import TOKEN_ID, Directory
from pve_simulator.api import ApiError, Request, Unauthorized

TICKET_LIFETIME_S = 2 * 3600
GRACE_S = 300
COOKIE = "PVEAuthCookie"


class Login:
    """`unix_time` is the clock that tickets and expiry dates are held against."""

    def __init__(self, directory: Directory, unix_time: Callable[[], float]) -> None:
        self._directory = directory
        self._unix_time = unix_time
        self._key = secrets.token_bytes(32)

    def authenticate(self, request: Request) -> str:
        """The user or token; 401 for nobody, for a wrong one, and for a change without CSRF."""
        cookie, header = request.headers.get("cookie"), request.headers.get("authorization")
        ticket = _credential(cookie, COOKIE) or _credential(header, COOKIE)
        if ticket:
            user = self._user_of(ticket)
            if request.method != "GET":
                self._check_csrf(user, request.headers.get("csrfpreventiontoken", ""))
            return user
        token = _credential(header, "PVEAPIToken")
        if not token:
            raise Unauthorized("No ticket")
        return self._token_of(token)

    def is_token(self, who: str) -> bool:
        return bool(TOKEN_ID.match(who))

    def login(self, username: str, password: str) -> None:
        """Check a password, or a ticket in its place. Says nothing about what was wrong."""
        of_ticket = self._verify(password)
        if of_ticket and of_ticket in (username, "root@pam") and self._is_enabled(username):
            return
        user = self._directory.users.get(username)
        if user is None or not self._is_enabled(username) or user.password != password:
            raise ApiError(401, "authentication failure", delay_s=3.0)

    def ticket(self, username: str) -> str:
        plain = f"PVE:{username}:{self._stamp()}"
        return f"{plain}::{self._sign(plain)}"

    def csrf_token(self, username: str) -> str:
        stamp = self._stamp()
        return f"{stamp}:{self._sign(f'csrf:{stamp}:{username}', length=32).rstrip('=')}"

    def console_ticket(self, who: str) -> str:
        """For a screen: it does not name its user."""
        stamp = self._stamp()
        return f"PVEVNC:{stamp}::{self._sign(f'vnc:{stamp}:{who}')}"

    def _user_of(self, ticket: str) -> str:
        user = self._verify(ticket)
        if user is None or not self._is_enabled(user):
            raise Unauthorized("Authentication failed!")
        return user

    def _token_of(self, value: str) -> str:
        name, equals, secret = value.rpartition("=")
        found = TOKEN_ID.match(name)
        if not equals or not found or not self._is_enabled(found[1]):
            raise Unauthorized("Authentication failed!")
        token = self._directory.users[found[1]].tokens.get(found[4])
        now = self._unix_time()
        if token is None or token.secret != secret or (token.expire and token.expire < now):
            raise Unauthorized("Authentication failed!")
        return name

    def _check_csrf(self, user: str, value: str) -> None:
        stamp = value.partition(":")[0]
        wanted = f"{stamp}:{self._sign(f'csrf:{stamp}:{user}', length=32).rstrip('=')}"
        if not re.fullmatch(r"[A-Z0-9]{8}", stamp) or value != wanted or not self._is_fresh(stamp):
            raise Unauthorized("Permission denied - invalid csrf token")

    def _verify(self, ticket: str) -> str | None:
        found = re.fullmatch(r"(PVE:(\S+):([A-Z0-9]{8}))::([^:\s]+)", ticket)
        if not found or not hmac.compare_digest(found[4], self._sign(found[1])):
            return None
        return unquote(found[2]) if self._is_fresh(found[3]) else None

    def _is_enabled(self, name: str) -> bool:
        user = self._directory.users.get(name)
        now = self._unix_time()
        return bool(user and user.enable and not (user.expire and user.expire < now))

    def _is_fresh(self, stamp: str) -> bool:
        return -GRACE_S < self._unix_time() - int(stamp, 16) < TICKET_LIFETIME_S

    def _stamp(self) -> str:
        return f"{int(self._unix_time()):08X}"

    def _sign(self, text: str, length: int = 256) -> str:
        # As long as the RSA signature it stands for, so that nobody's column is too narrow.
        block, digest = b"", hmac.new(self._key, text.encode(), hashlib.sha256).digest()
        while len(block) < length:
            block += digest
            digest = hashlib.sha256(digest).digest()
        return base64.b64encode(block[:length]).decode()


def _credential(header: str | None, name: str) -> str | None:
    if not header:
        return None
    found = re.search(rf"(?:^|\s){name}(?:=| )([^;]*)", header)
    return unquote(found[1]) if found and found[1] else None
