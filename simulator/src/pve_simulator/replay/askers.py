"""Who asks: a recording leaves the credentials out, so they are the world's, or worked out.

The world file may say it (`replay: {asker: …, askers: {"13-20": lim@pve!t1}}`). Otherwise: a UPID
names its user; a 401 names its kind of failure; a call that was refused was made by somebody whom
the simulator refuses in the same words; all others by who started most of the tasks.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pve_simulator import router, schema
from pve_simulator.access import Access, Identity, versions
from pve_simulator.api import ApiError
from pve_simulator.replay.clues import asker_of, usual_asker
from pve_simulator.replay.recording import Exchange

NOBODY = "nobody"
STRANGER = "stranger"  # a token with a wrong secret
NO_CSRF = " without csrf"

PASSWORD = "a replayed password"


class BadAskers(ValueError):
    """The world file's `replay.askers` cannot be read."""


class Askers:
    """Chooses for one playing of a recording. `corrections`: by exchange, from earlier playings."""

    def __init__(
        self,
        access: Access,
        exchanges: list[Exchange],
        said: Mapping[str, Any],
        corrections: Mapping[int, str],
    ) -> None:
        self._access = access
        self._said = _spread(said.get("askers") or {})
        self._corrections = corrections
        known = set(self._everybody())
        self._usual = said.get("asker") or usual_asker(exchanges, known) or self._first_token()
        self.last_other: list[str] = []  # who else was found out, latest first

    def is_known(self, exchange: Exchange) -> bool:
        return exchange.n in self._said or asker_of(exchange) is not None

    def choose(self, exchange: Exchange) -> str:
        known = self._said.get(exchange.n) or asker_of(exchange)
        if known:
            return known
        if exchange.status == 401 and exchange.content_type is None:
            return self._of_failure(exchange.reason)
        corrected = self._corrections.get(exchange.n)
        if corrected:
            return corrected
        return self._refused(exchange) or str(self._usual)

    def others(self, asker: str) -> Iterator[str]:
        """All others who could have asked, the likely ones first."""
        yield from (
            who
            for who in dict.fromkeys([*self.last_other, *self._everybody(), NOBODY])
            if who != asker
        )

    def found_out(self, asker: str) -> None:
        """This one asked once, and is likely to go on."""
        self.last_other = [asker, *(who for who in self.last_other if who != asker)]

    def headers(self, asker: str) -> dict[str, str]:
        """The credentials of somebody, as they are now."""
        login = self._access.login
        name = asker.removesuffix(NO_CSRF)
        if name == NOBODY:
            return {}
        if name == STRANGER:
            return {"authorization": "PVEAPIToken=root@pam!stranger=0"}
        user, bang, token = name.partition("!")
        if bang:
            known = self._access.directory.users.get(user)
            secret = known.tokens[token].secret if known and token in known.tokens else "0"
            return {"authorization": f"PVEAPIToken={name}={secret}"}
        headers = {"cookie": f"PVEAuthCookie={login.ticket(name)}"}
        if not asker.endswith(NO_CSRF):
            headers["csrfpreventiontoken"] = login.csrf_token(name)
        return headers

    def _of_failure(self, reason: str) -> str:
        if reason == "Authentication failed!":
            return STRANGER
        return "root@pam" + NO_CSRF if "csrf" in reason else NOBODY

    def _refused(self, exchange: Exchange) -> str | None:
        """Of a change: whom the schema's rule refuses, or lets in, as the recording says."""
        if exchange.method == "GET":
            return None
        wanted = exchange.reason if exchange.status == 403 else None
        everybody = dict.fromkeys([str(self._usual), *self.last_other, *self._everybody()])
        refusals = {who: self._refusal(exchange, who) for who in everybody}
        fitting = [who for who, refusal in refusals.items() if refusal == wanted]
        return fitting[0] if fitting else None

    def _refusal(self, exchange: Exchange, who: str) -> str | None:
        try:
            match = router.find(exchange.method, exchange.path)
            params = {**exchange.params, **match.path_params}
            template = match.endpoint.template
            known = schema.find(exchange.method, template)
            if "!" in who and known and not known.allows_token:
                return f"no token may call {template}"
            rule = versions.rule_of(exchange.method, template, self._access.major)
            self._access.rules(Identity(who)).check_method(rule, params)
        except ApiError as error:
            return error.message if error.status == 403 else None
        return None

    def _everybody(self) -> Iterator[str]:
        for name, user in self._access.directory.users.items():
            yield from (f"{name}!{t}" for t, token in user.tokens.items() if not token.is_hidden)
            yield name

    def _first_token(self) -> str:
        return next((who for who in self._everybody() if "!" in who), "root@pam")


def fill_secrets(exchange: Exchange, params: dict[str, Any], access: Access) -> dict[str, Any]:
    """A `***` that was a password becomes the right one, or a wrong one where it was refused."""
    filled = dict(params)
    complaints = exchange.response.get("errors", {}) if isinstance(exchange.response, dict) else {}
    for key in ("password", "confirmation-password"):
        if filled.get(key) != "***" or key in complaints:
            continue
        name = str(params.get("username") or params.get("userid") or "")
        if params.get("realm"):
            name += f"@{params['realm']}"
        user = access.directory.users.get(name)
        if exchange.path == "/access/ticket":
            is_right = exchange.status == 200
            if user and user.password is None:
                user.password = PASSWORD
            filled[key] = user.password if user and is_right else "a wrong password"
        else:
            filled[key] = PASSWORD
    return filled


def _spread(said: Mapping[Any, str]) -> dict[int, str]:
    """`{"1": a, "3-5": b}` by number."""
    found: dict[int, str] = {}
    for numbers, who in said.items():
        for part in str(numbers).split(","):
            span = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
            if not span:
                raise BadAskers(f"replay.askers: {numbers!r} is no number or span of exchanges")
            last = int(span[2] or span[1])
            found |= dict.fromkeys(range(int(span[1]), last + 1), who)
    return found
