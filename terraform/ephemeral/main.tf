# One desktop: a clone of the template, started. It does not wait for the guest; the orchestrator does.

provider "proxmox" {
  pm_api_url          = "${trimsuffix(trimsuffix(var.api_url, "/"), "/api2/json")}/api2/json"
  pm_api_token_id     = var.token_id
  pm_api_token_secret = var.token_secret
  pm_tls_insecure     = var.tls_insecure

  # It asks for rights on the whole cluster that a desktop does not need; `daas doctor` asks for
  # those that it does.
  pm_minimum_permission_check = false
}

resource "proxmox_vm_qemu" "desktop" {
  vmid        = var.vmid
  name        = var.vm_name
  target_node = var.node
  pool        = var.pool == "" ? null : var.pool
  description = var.description
  tags        = join(";", sort(var.tags))

  clone      = var.template_vmid == 0 ? var.template_name : null
  clone_id   = var.template_vmid == 0 ? null : var.template_vmid
  full_clone = var.full_clone

  # Plain sleeps of the provider.
  clone_wait      = 0
  additional_wait = 0

  # The orchestrator starts it, and never two of one session.
  start_at_node_boot = false
  vm_state           = "running"

  # The agent is on, and nobody here waits for what it says.
  agent                  = 1
  define_connection_info = false

  memory = var.memory_mib
  scsihw = "virtio-scsi-pci"

  cpu {
    cores = var.cores
    type  = "host"
  }

  disks {
    ide {
      ide2 {
        cloudinit {
          storage = var.storage
        }
      }
    }

    scsi {
      scsi0 {
        ignore = var.disk_gib == 0 ? true : null

        dynamic "disk" {
          for_each = var.disk_gib == 0 ? [] : [var.disk_gib]

          content {
            storage = var.storage
            size    = "${disk.value}G"
            format  = var.disk_format
          }
        }
      }
    }
  }

  network {
    id     = 0
    model  = "virtio"
    bridge = var.bridge
    tag    = var.vlan
  }

  os_type   = "cloud-init"
  ciuser    = var.ci_user
  sshkeys   = var.ssh_key
  ciupgrade = false
  ipconfig0 = var.address == "" ? "ip=dhcp" : var.gateway == "" ? "ip=${var.address}" : "ip=${var.address},gw=${var.gateway}"

  lifecycle {
    # A new template is for new desktops; the other shows a difference that is none at each plan.
    ignore_changes = [clone, clone_id, full_clone, startup_shutdown]
  }
}
