"""Terraform (or OpenTofu) as a means to make and destroy one machine: `runner.Terraform`. Knows
nothing of Proxmox; what a module is given and returns is docs/reference/desktop-module.md."""
