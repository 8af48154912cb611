"""Proxmox VE: Terraform makes machines, its API (by proxmoxer) shows and ends them."""
