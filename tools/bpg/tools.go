//go:build tools

// Package tools pins the Terraform provider of terraform/ephemeral-bpg; deploy/terraform-tools builds it.
package tools

import _ "github.com/bpg/terraform-provider-proxmox"
