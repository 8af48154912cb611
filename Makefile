# `make help` says what there is. Every target may be run again.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
PROVIDER ?= lxd
BIN := .venv/bin
export UV_PYTHON_DOWNLOADS := never
export PYTHON PROVIDER

SHELL_FILES := $(wildcard deploy/bootstrap deploy/clean deploy/demo deploy/*.sh deploy/lxd-* deploy/terraform-* .ci/run)

.PHONY: help demo test check e2e bench dev clean contract-incus lock terraform

help: ## Show this
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1@/' | column -t -s @

demo: ## From nothing to a desktop: installs, serves, builds, asks for one (PROVIDER=simulated: no guest)
	@deploy/demo

test: .venv/.dev ## Unit and integration tests, on SQLite and on a PostgreSQL server of their own
	$(BIN)/pytest $(ARGS)

check: .venv/.dev ## Format, lint, types, who imports whom, Ansible, Terraform, shell
	$(BIN)/ruff format --check src tests benchmarks simulator
	$(BIN)/ruff check src tests benchmarks simulator
	$(BIN)/mypy
	cd simulator && ../$(BIN)/mypy
	$(BIN)/ruff check --extension yaml:python ansible/inventory/inventory.yaml # by its shebang
	$(BIN)/ruff format --check --extension yaml:python ansible/inventory/inventory.yaml
	$(BIN)/lint-imports
	cd ansible && PATH="$(CURDIR)/$(BIN):$$PATH" ansible-lint --offline --profile production
	deploy/terraform-check
	@if command -v shellcheck >/dev/null; then shellcheck -x $(SHELL_FILES); else echo "shellcheck is not installed; shell files were not checked"; fi

terraform: .venv/.dev ## Build bpg's provider and OpenTofu, run both desktop modules on the simulator
	@deploy/terraform-tools || { [ $$? = 69 ] && [ "$$DAAS_TEST_TERRAFORM" != required ]; }
	$(BIN)/pytest tests/terraform $(ARGS)

e2e: .venv/.dev ## Real LXD, and Proxmox as simulated: contracts, desktops by RDP, screenshots, kill -9 at every kill point
	@mkdir -p build
	DAAS_CONTRACT=simulated $(BIN)/pytest -q tests/contract
	DAAS_CONTRACT=lxd $(BIN)/pytest tests/contract
	DAAS_CONTRACT=proxmox $(BIN)/pytest tests/contract
	$(BIN)/pytest tests/e2e --junit-xml build/junit.xml $(ARGS)

bench: .venv/.dev ## Measure, compare with the goals, write build/bench.json
	$(BIN)/python -m benchmarks $(ARGS)

dev: .venv/.dev ## The service on the simulated provider, started again when a file changes
	@$(BIN)/python -m daas.cli dev

contract-incus: export DAAS_LXD_POOL := daasincus
contract-incus: export DAAS_LXD_BRIDGE := daasincus0
contract-incus: export DAAS_LXD_SUBNET := 10.90.0.1/24
contract-incus: .venv/.dev ## The provider contract on Incus (bookworm-backports)
	deploy/lxd-up incus
	DAAS_CONTRACT=incus $(BIN)/pytest tests/contract $(ARGS)
	deploy/lxd-down incus

lock: .venv/.dev ## Pin all dependencies anew, with hashes
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 --quiet \
		pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 --quiet \
		--group dev pyproject.toml -o requirements-dev.lock

clean: ## Take it all away: desktops, templates, what is ours in LXD, var/, build/, .venv
	@deploy/clean

# Not a file that is made: bootstrap itself knows, in a moment, whether something is missing.
.PHONY: .venv/.dev
.venv/.dev:
	@deploy/bootstrap --dev
