# The contract of a desktop module: docs/reference/desktop-module.md.

variable "api_url" {
  description = "Address of a node's API, such as https://10.0.0.1:8006."
  type        = string
}

variable "token_id" {
  description = "API token, such as daas@pve!orchestrator."
  type        = string
}

variable "token_secret" {
  description = "Secret of the API token."
  type        = string
  sensitive   = true
}

variable "tls_insecure" {
  description = "Trust any certificate of the API. For a lab only: whoever is between you and it gets the token."
  type        = bool
  default     = false
}

variable "vm_name" {
  description = "Name of the machine, and the host name that cloud-init gives it."
  type        = string
}

variable "vmid" {
  description = "Number of the machine, free in the whole cluster."
  type        = number
}

variable "node" {
  description = "Node that it runs on."
  type        = string
  default     = "pve"
}

variable "template_vmid" {
  description = "Number of the template; 0 looks for template_name."
  type        = number
  default     = 0
}

variable "template_name" {
  description = "Name of the template, where template_vmid is 0."
  type        = string
  default     = "ubuntu-22.04-template"
}

variable "template_node" {
  description = "Node that the template is on; \"\" is the machine's own."
  type        = string
  default     = ""
}

variable "full_clone" {
  description = "Copy the template's disk instead of building on it. Slow, and needed on storage that cannot do better."
  type        = bool
  default     = false
}

variable "cores" {
  description = "Virtual cores."
  type        = number
  default     = 2
}

variable "memory_mib" {
  description = "Memory."
  type        = number
  default     = 4096
}

variable "disk_gib" {
  description = "Size of the disk, never below the template's; 0 leaves it as it is there."
  type        = number
  default     = 0
}

variable "disk_format" {
  description = "Format of the disk: raw on LVM, ZFS and Ceph, qcow2 on folders and NFS. Read where disk_gib is not 0."
  type        = string
  default     = "raw"
}

variable "storage" {
  description = "Storage of the disk and of the cloud-init drive. A linked clone's disk stays where the template's is."
  type        = string
  default     = "local-lvm"
}

variable "bridge" {
  description = "Bridge of the network card."
  type        = string
  default     = "vmbr0"
}

variable "vlan" {
  description = "VLAN of the network card; null is none."
  type        = number
  default     = null
}

variable "pool" {
  description = "Resource pool; \"\" is none."
  type        = string
  default     = ""
}

variable "address" {
  description = "Address with its prefix, such as 10.0.0.50/24; \"\" is DHCP."
  type        = string
  default     = ""
}

variable "gateway" {
  description = "Gateway, with address."
  type        = string
  default     = ""
}

variable "ci_user" {
  description = "User that cloud-init makes and gives ssh_key."
  type        = string
  default     = "daas"
}

variable "ssh_key" {
  description = "Public SSH keys, one a line; \"\" is none."
  type        = string
  default     = ""
}

variable "tags" {
  description = "Tags of the machine: how the orchestrator knows its own."
  type        = list(string)
  default     = []
}

variable "description" {
  description = "Notes of the machine."
  type        = string
  default     = ""
}
