"""The HTTP API as a Flask app: one blueprint per noun; parse, authorize, call one verb, render.
`daas.api.app` is built when it is first asked for, not on import."""

from typing import Any

from flask.helpers import get_debug_flag

from daas import config, installation
from daas.api import (
    errors,
    events,
    health,
    home,
    legacy,
    nodes,
    openapi,
    requests,
    sessions,
    templates,
)
from daas.api import tokens as access
from daas.api.core import THREADS, Core
from daas.api.openapi import Api
from daas.config import Settings
from daas.crypto import Vault
from daas.db import Database

__all__ = ["app", "create_app", "document"]


def create_app(
    settings: Settings | None = None, database: Database | None = None, **options: Any
) -> Api:
    """The app, with its database checked; ConfigError says what to run if there is none yet.
    Without any installation a trial (debug mode, FLASK_ENV, DAAS_AUTH=none) makes one."""
    settings = settings or config.settings()
    if database is None:
        _prepare(settings)
        database = installation.open_database(settings, THREADS)
    api = _routes()
    revision = database.revision()[1]
    vault = Vault(settings.secrets_dir)
    api.extensions["daas"] = Core(settings, database, vault, revision=revision, **options)
    return api


def document() -> dict[str, Any]:
    """The OpenAPI document, without any installation."""
    return _routes().api_doc


def _routes() -> Api:
    api = openapi.make()
    api.json.ensure_ascii = False  # type: ignore[attr-defined]
    api.config["SWAGGER_CONFIG"] = {"validatorUrl": None}  # it would send our document elsewhere
    requests.install(api)
    errors.install(api)
    for noun in (sessions, templates, nodes, events, access, health):
        api.register_api(noun.bp)
    legacy.install(api)
    api.register_blueprint(home.bp)
    return api


def _prepare(settings: Settings) -> None:
    """What a trial needs exists. No token is made: its text would be shown to nobody."""
    is_trial = settings.auth == "none" or settings.flask_env != "production" or get_debug_flag()
    if is_trial and settings.database_url is None:
        installation.init(settings, with_token=False)


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    globals()["app"] = made = create_app()
    return made
