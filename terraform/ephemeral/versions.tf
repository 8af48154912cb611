terraform {
  required_version = ">= 1.5"

  required_providers {
    proxmox = {
      source = "telmate/proxmox"
      # Not rc08 nor rc09: their destroy fails within 10 s of a start.
      version = "3.0.2-rc07"
    }
  }
}
