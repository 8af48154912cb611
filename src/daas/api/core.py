"""What every view works with: the settings, the database, the vault. Made once per app."""

from dataclasses import dataclass
from importlib.metadata import version

from flask import current_app

from daas.config import Settings
from daas.crypto import Vault
from daas.db import Database
from daas.nodes.placement import Policy
from daas.sessions.service import Limits

VERSION = version("daas-orchestrator")
STREAM_MAX_S = 3600.0  # then a stream ends; who reads it comes back with its last id
LEGACY_WAIT_S = 3600.0  # longer than the deadlines of all statuses on the way to ready
THREADS = 16  # of ours that use the database at the same time, in one process


@dataclass(frozen=True)
class Core:
    settings: Settings
    database: Database
    vault: Vault
    stream_max_s: float = STREAM_MAX_S
    legacy_wait_s: float = LEGACY_WAIT_S
    revision: str | None = None  # of the schema that this code needs

    @property
    def limits(self) -> Limits:
        return Limits(
            max_sessions=self.settings.max_concurrent_sessions,
            max_life_s=self.settings.session_max_life_s,
            refuses_when_full=self.settings.no_room == "refuse",
            placement=Policy(self.settings.cpu_overcommit, self.settings.spread_tenants),
        )


def core() -> Core:
    """The core of the app that answers this request."""
    found: Core = current_app.extensions["daas"]
    return found
