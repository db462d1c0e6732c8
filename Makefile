# `make` lists what there is. Recipes are strict bash; what is longer than a screen lives in scripts/.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

SUITE ?= trixie
PG_MAJOR ?= $(or $(PG_MAJOR_$(SUITE)),$(error SUITE is one of trixie, bookworm, sid))
PG_MAJOR_trixie := 17
PG_MAJOR_bookworm := 15
PG_MAJOR_sid := 18
IMAGE ?= $(if $(filter trixie,$(SUITE)),pgnode:local,pgnode:$(SUITE))
HAPROXY_IMAGE ?= pgnode-haproxy:$(SUITE)
JIT ?= yes
NODE ?= pg1

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BUILD_ARGS := --build-arg SUITE=$(SUITE) --build-arg PG_MAJOR=$(PG_MAJOR) --build-arg JIT=$(JIT)
# `docker compose` (v2) where it is there, else docker-compose (1.29). The project's name comes from compose/.env in both,
# and is said here as well so that a COMPOSE_PROJECT_NAME in the environment cannot lead `down` astray.
COMPOSE = $(eval COMPOSE := $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose) \
	--project-name pgnode --project-directory compose --file compose/playground.yml)$(COMPOSE)
export SUITE PG_MAJOR IMAGE HAPROXY_IMAGE COMPOSE TARGET_DIR BUILD_ARGS

##@ Use
.PHONY: up
up: ## build what is missing, start master, slave, witness and HAProxy, wait until all are healthy
	@if ! scripts/have cargo docker >/dev/null; then $(MAKE) setup; fi
	@if command -v cargo >/dev/null; then $(MAKE) image; else $(MAKE) image-source; fi
	@$(MAKE) haproxy
	@scripts/up

.PHONY: down
down: ## stop the playground and remove its containers, networks and volumes
	@scripts/secrets
	$(COMPOSE) down --volumes --remove-orphans --timeout 60

.PHONY: logs
logs: ## follow the logs of all nodes
	@$(COMPOSE) logs --follow --tail=100

.PHONY: status
status: ## the status table (NODE=pg1)
	@$(COMPOSE) exec -T $(NODE) pgnode status

.PHONY: psql
psql: ## a superuser session (NODE=pg1), or one statement (SQL='select 1')
	@scripts/psql $(NODE)

##@ Build
.PHONY: setup
setup: ## install what is lacking (Debian as root), or say in one line what to install
	@scripts/setup

.PHONY: image
image: packages ## build the binary and the image pgnode:local (SUITE=trixie|bookworm|sid, JIT=no for a smaller one)
	@cargo build --release --locked --bin pgnode
	@scripts/image $(TARGET_DIR)/release/pgnode

.PHONY: packages
packages: # the image without the binary: takes a minute once, then nothing
	@docker/base-image $(SUITE)
	@mkdir -p $(TARGET_DIR)/image/context && { [ -e $(TARGET_DIR)/image/context/pgnode ] || : >$(TARGET_DIR)/image/context/pgnode; }
	@docker image inspect pgnode-packages:$(SUITE) >/dev/null 2>&1 || echo "image: installing Debian's packages (a minute, once)"
	@scripts/docker-build $(BUILD_ARGS) --target packages -t pgnode-packages:$(SUITE) -f docker/Dockerfile $(TARGET_DIR)/image/context

.PHONY: haproxy
haproxy: # HAProxy with the playground's configuration
	@docker/base-image $(SUITE)
	@docker image inspect $(HAPROXY_IMAGE) >/dev/null 2>&1 || echo "haproxy: installing Debian's package (once)"
	@scripts/docker-build --build-arg SUITE=$(SUITE) -t $(HAPROXY_IMAGE) docker/haproxy

.PHONY: image-source
image-source: packages ## the same image without a Rust toolchain on this machine
	@docker/base-image trixie
	@echo "image: building the binary in a container (minutes)"
	@scripts/docker-build -t pgnode-source -f docker/Dockerfile.source .
	@container=$$(docker create pgnode-source /pgnode) && \
		docker cp $$container:/pgnode $(TARGET_DIR)/image/from-source && docker rm $$container >/dev/null
	@scripts/image $(TARGET_DIR)/image/from-source; rm -f $(TARGET_DIR)/image/from-source

##@ Check
.PHONY: test
test: ## everything: format, lints, docs, licences, unit, process and cluster tests; ends with the count
	@scripts/test all

.PHONY: test-fast
test-fast: ## only the tests that need no container
	@scripts/test fast

.PHONY: chaos
chaos: image ## faults from a seed on three nodes (CHAOS_SEED, CHAOS_FAULTS, CHAOS_MINUTES, CHAOS_ONLY: docs/testing.md)
	@PGNODE_IMAGE=$(IMAGE) scripts/test chaos

.PHONY: bench
bench: image ## the benchmarks (results: benches/README.md)
	@PGNODE_IMAGE=$(IMAGE) cargo bench --locked --profile dev --bench node

.PHONY: bench-failover
bench-failover: image ## time without a writable node, beside Patroni (FAILOVER_RUNS, FAILOVER_ONLY: benches/README.md)
	@scripts/docker-build -t pgnode-patroni -f benches/failover/Dockerfile benches/failover
	@PGNODE_IMAGE=$(IMAGE) cargo bench --locked --profile dev --bench failover

.PHONY: lint
lint: ## format, clippy, shellcheck, licences and bans
	@scripts/test lint

.PHONY: fmt
fmt: ## format the code
	cargo fmt --all

.PHONY: docs
docs: ## the documentation of the crate, private items included; warnings are errors
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --no-deps --locked --document-private-items

.PHONY: help
help:
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
