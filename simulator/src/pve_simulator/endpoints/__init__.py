"""The API: importing this package registers every endpoint."""

from pve_simulator.endpoints import (
    access,
    cluster,
    config,
    nodes,
    pools,
    qemu,
    status,
    tasks,
    users,
)

__all__ = [
    "access",
    "cluster",
    "config",
    "nodes",
    "pools",
    "qemu",
    "status",
    "tasks",
    "users",
]
