# One desktop: a clone of the template, started. It does not wait for the guest; the orchestrator does.

locals {
  template_node = var.template_node == "" ? var.node : var.template_node
  template_vmid = var.template_vmid == 0 ? one(data.proxmox_virtual_environment_vms.template[*].vms[0].vm_id) : var.template_vmid
}

provider "proxmox" {
  endpoint  = trimsuffix(trimsuffix(var.api_url, "/"), "/api2/json")
  api_token = "${var.token_id}=${var.token_secret}"
  insecure  = var.tls_insecure
}

data "proxmox_virtual_environment_vms" "template" {
  count     = var.template_vmid == 0 ? 1 : 0
  node_name = local.template_node

  filter {
    name   = "name"
    values = [var.template_name]
  }

  filter {
    name   = "template"
    values = [true]
  }
}

resource "proxmox_virtual_environment_vm" "desktop" {
  vm_id       = var.vmid
  name        = var.vm_name
  node_name   = var.node
  pool_id     = var.pool == "" ? null : var.pool
  description = var.description
  tags        = sort(var.tags)

  # The orchestrator starts it, and never two of one session.
  on_boot         = false
  started         = true
  stop_on_destroy = true

  clone {
    vm_id        = local.template_vmid
    node_name    = local.template_node
    full         = var.full_clone
    datastore_id = var.full_clone ? var.storage : null
    # After a failed first try a second one takes a VM that exists by now for its own.
    retries = 1
  }

  agent {
    enabled = true

    wait_for_ip {
      disabled = true
    }
  }

  cpu {
    cores = var.cores
    type  = "host"
  }

  memory {
    dedicated = var.memory_mib
  }

  dynamic "disk" {
    for_each = var.disk_gib == 0 ? [] : [var.disk_gib]

    content {
      interface    = "scsi0"
      datastore_id = var.storage
      size         = disk.value
      file_format  = var.disk_format
    }
  }

  network_device {
    bridge  = var.bridge
    vlan_id = var.vlan
  }

  operating_system {
    type = "l26"
  }

  initialization {
    datastore_id = var.storage
    interface    = "ide2"
    upgrade      = false

    ip_config {
      ipv4 {
        address = var.address == "" ? "dhcp" : var.address
        gateway = var.gateway == "" ? null : var.gateway
      }
    }

    user_account {
      username = var.ci_user
      keys     = compact(split("\n", var.ssh_key))
    }
  }

  lifecycle {
    # A new template is for new desktops.
    ignore_changes = [clone]
  }
}
