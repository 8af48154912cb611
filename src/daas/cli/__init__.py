"""The `daas` command. `session`, `template`, `token` and `why` speak HTTP to DAAS_URL; the rest
works on this machine."""

from daas.cli.app import main

__all__ = ["main"]
