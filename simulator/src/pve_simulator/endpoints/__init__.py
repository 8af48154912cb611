"""The API: importing this package registers every endpoint."""

from pve_simulator.endpoints import (
    access,
    agent,
    cluster,
    config,
    console,
    files,
    ha,
    nodes,
    pools,
    qemu,
    snapshots,
    status,
    storage,
    tasks,
    users,
)

__all__ = [
    "access",
    "agent",
    "cluster",
    "config",
    "console",
    "files",
    "ha",
    "nodes",
    "pools",
    "qemu",
    "snapshots",
    "status",
    "storage",
    "tasks",
    "users",
]
