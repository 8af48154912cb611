//go:build tools

// Package tools pins OpenTofu, which works in Terraform's place; deploy/terraform-tools builds it.
package tools

import _ "github.com/opentofu/opentofu/cmd/tofu"
