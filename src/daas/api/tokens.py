"""/api/v1/tokens and /api/v1/me"""

from typing import get_args

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from sqlalchemy.orm import Session as Db

from daas import tenants
from daas.access import tokens
from daas.access.actors import Actor, Role
from daas.access.tokens import Token
from daas.api.auth import actor
from daas.api.core import core
from daas.api.openapi import GUARDED, TAGS, answers
from daas.api.render import maybe_when, reply, tagged, when
from daas.api.schemas import (
    ROLES,
    MeOut,
    TokenIn,
    TokenList,
    TokenMade,
    TokenOut,
    TokenPath,
)
from daas.errors import Forbidden, NotFound

RANK = list(get_args(ROLES))

bp = APIBlueprint(
    "access", __name__, url_prefix="/api/v1", abp_tags=[TAGS["access"]], abp_security=GUARDED
)


@bp.post("/tokens", responses=answers(401, 403, 404, 409, 413, 415, created=TokenMade))
def create(body: TokenIn) -> Response:
    """Make a token; its text is shown this once and kept nowhere"""
    who = actor()
    name, tenant, role = body.name or who.name, body.tenant or who.tenant, Role(body.role)
    _check(who, name, tenant, role)
    with core().database.transaction() as db:
        _check_tenant(db, tenant)
        token, text = tokens.create(db, name, tenant, role, who.name)
    view = TokenMade(**_view(token).model_dump(), token=text)
    return reply(view, 201, {"Cache-Control": "no-store"})


@bp.get("/tokens", responses=answers(401, ok=TokenList, same=None))
def list_all() -> Response:
    """The tokens you may see, newest first; never their text"""
    with core().database.reading() as db:
        items = [_view(token) for token in tokens.mine(db, actor())]
    return tagged(TokenList(items=items))


@bp.delete("/tokens/<id>", responses=answers(401, 403, 404, gone=None))
def revoke(path: TokenPath) -> Response:
    """Have it open nothing any more, from the next request on"""
    with core().database.transaction() as db:
        tokens.revoke(db, actor(), path.id)
    return Response(status=204)


@bp.get("/me", responses=answers(401, ok=MeOut, same=None))
def me() -> Response:
    """Who you are here"""
    who = actor()
    auth = core().settings.auth
    return tagged(MeOut(name=who.name, tenant=who.tenant, role=who.role.value, auth=auth))


def _check(who: Actor, name: str, tenant: str, role: Role) -> None:
    if not who.may_act_for(name, tenant):
        raise Forbidden("You can make tokens for yourself only, in your own tenant.", "name")
    if RANK.index(role) > RANK.index(who.role):
        raise Forbidden(f"Your own role is {who.role}; you cannot give more.", "role")


def _check_tenant(db: Db, name: str) -> None:
    if db.get(tenants.Tenant, name) is None:
        raise NotFound(f"There is no tenant {name}.", "tenant")


def _view(token: Token) -> TokenOut:
    return TokenOut(
        id=token.id,
        name=token.name,
        tenant=token.tenant,
        role=Role(token.role).value,
        created_at=when(token.created_at),
        revoked_at=maybe_when(token.revoked_at),
    )
