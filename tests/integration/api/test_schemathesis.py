"""Every operation of the OpenAPI document under schemathesis: all checks, nothing left out, with a
token, and at least EXAMPLES requests each. Names are often those of things that exist, so that
more than refusals is seen."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from sqlalchemy import select

from daas.access.tokens import Token
from daas.api import document
from daas.sessions.models import Session
from daas.templates.models import Build
from support.site import PEOPLE, Site, make_site

EXAMPLES = int(os.environ.get("DAAS_TEST_SCHEMA_EXAMPLES", "100"))
OPERATIONS = 28
PATTERNS = {
    "desk": r"[a-z][a-z0-9.-]{0,40}",
    "desktop": r"desktop-[a-z2-7]{6}",
    "build": r"build-[a-z2-7]{6}",
    "token": r"token-[0-9a-f]{8}",
}
REAL = {"desktop": Session.name, "build": Build.name, "token": Token.id}

ran: Counter[str] = Counter()
answered: dict[str, set[int]] = {}
last: dict[str, Any] = {}


site: Site


def app(environ: Any, start_response: Any) -> Any:
    """The document is read when tests are collected; the site comes with the first of them."""
    return site.api(environ, start_response)


schema = schemathesis.openapi.from_dict(document())
schema.app = app


@pytest.fixture(scope="module", autouse=True)
def _site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    global site
    site = make_site(tmp_path_factory.mktemp("fuzzed"), {"stream_max_s": 0.05})
    for who in ("ada", "op", "op"):
        site.desktop(who)
    yield
    site.worker.stop()
    site.database.dispose()


dice = Random(1)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_keeps_its_word(case: Any) -> None:
    _call(case)


def test_no_operation_was_left_out() -> None:
    """Where there is little to vary (GET /me has no parameters) the same is asked again."""
    documented = [result.ok().label for result in schema.get_all_operations()]
    for label in documented:
        while ran[label] < EXAMPLES:
            _call(last[label])

    assert len(documented) == OPERATIONS
    assert sorted(ran) == sorted(documented)
    assert min(ran.values()) >= 100
    # It was not refusals all the way.
    good = {label for label, seen in answered.items() if seen & {200, 201, 202, 204}}
    assert good == set(documented)


def _call(case: Any) -> None:
    label = case.operation.label
    ran[label] += 1
    _name_what_is_there(case)
    last[label] = case
    response = case.call(headers=site.headers("op"))
    answered.setdefault(label, set()).add(response.status_code)
    case.validate_response(response, headers=site.headers("op"))


def _name_what_is_there(case: Any) -> None:
    """Half of the names that are well formed become those of something that is there."""
    given = case.path_parameters or {}
    if "name" in given and _fits(given["name"], "desk") and dice.random() < 0.5:
        is_node = case.operation.path.startswith("/api/v1/nodes/")
        case.path_parameters["name"] = "sim1" if is_node else "desk"
    kind = str(given.get("id", "")).partition("-")[0]
    if kind in REAL and _fits(given["id"], kind) and dice.random() < 0.5:
        case.path_parameters["id"] = dice.choice(_names(kind))


def _fits(name: object, kind: str) -> bool:
    return re.fullmatch(PATTERNS[kind], str(name)) is not None


def _names(kind: str) -> list[str]:
    """Not of the token that is used here: it is to last."""
    column = REAL[kind]
    with site.database.reading() as db:
        rows = select(column)
        if kind == "token":
            rows = rows.where(Token.name.not_in(PEOPLE))
        return list(db.scalars(rows.limit(200))) or [f"{kind}-aaaaaa"]
