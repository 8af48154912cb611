output "vmid" {
  description = "Number of the machine."
  value       = proxmox_virtual_environment_vm.desktop.vm_id
}

output "name" {
  description = "Name of the machine."
  value       = proxmox_virtual_environment_vm.desktop.name
}

output "node" {
  description = "Node that it runs on."
  value       = proxmox_virtual_environment_vm.desktop.node_name
}

output "mac_address" {
  description = "Address of its network card, upper case."
  value       = upper(proxmox_virtual_environment_vm.desktop.network_device[0].mac_address)
}
