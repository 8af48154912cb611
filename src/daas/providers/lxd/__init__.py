"""LXD and Incus, over their unix socket: client (the API), provider (the contract), bake."""
