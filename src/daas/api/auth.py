"""Who is asking: a Bearer token, or nobody in particular where DAAS_AUTH=none."""

from flask import Request, g

from daas import tenants
from daas.access import tokens
from daas.access.actors import Actor, Role
from daas.api.core import core
from daas.errors import Forbidden, Unauthorized

ANONYMOUS = Actor("anonymous", tenants.DEFAULT, Role.OPERATOR)


def authenticate(request: Request) -> None:
    """`actor()` is known from here on; Unauthorized if nobody is. Looked up for each request, so
    that a revoked token opens nothing from the next one on."""
    if core().settings.auth == "none":
        g.actor = ANONYMOUS
        return
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise Unauthorized(
            "This needs a token: send `Authorization: Bearer TOKEN`. "
            "The first one is printed by `daas init`."
        )
    with core().database.reading() as db:
        g.actor = tokens.actor_of(db, text.strip())


def actor() -> Actor:
    found: Actor = g.actor
    return found


def require_operator(what: str) -> Actor:
    """The actor, if they run the installation; Forbidden otherwise."""
    if not actor().is_operator:
        raise Forbidden(f"{what} is for operators.")
    return actor()


def require_admin(what: str) -> Actor:
    """The actor, if they administer something; Forbidden otherwise."""
    if not actor().is_admin:
        raise Forbidden(f"{what} is for administrators.")
    return actor()
