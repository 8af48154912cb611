"""Desktops as a service: people change what is desired; one loop moves what is."""
