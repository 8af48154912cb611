"""The API: importing this package registers every endpoint."""

from pve_simulator.endpoints import (
    cluster,
    config,
    nodes,
    qemu,
    status,
    tasks,
)

__all__ = ["cluster", "config", "nodes", "qemu", "status", "tasks"]
