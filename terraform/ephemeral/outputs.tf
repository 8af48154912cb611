output "vmid" {
  description = "Number of the machine."
  value       = proxmox_vm_qemu.desktop.vmid
}

output "name" {
  description = "Name of the machine."
  value       = proxmox_vm_qemu.desktop.name
}

output "node" {
  description = "Node that it runs on."
  value       = proxmox_vm_qemu.desktop.target_node
}

output "mac_address" {
  description = "Address of its network card, upper case."
  value       = upper(proxmox_vm_qemu.desktop.network[0].macaddr)
}
