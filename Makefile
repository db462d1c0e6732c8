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
# Anything but nothing: the playground with an S3 server.
S3 ?=

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BUILD_ARGS := --build-arg SUITE=$(SUITE) --build-arg PG_MAJOR=$(PG_MAJOR) --build-arg JIT=$(JIT)
# `docker compose` (v2) where it is there, else docker-compose (1.29). The project's name comes from compose/.env in both,
# and is said here as well so that a COMPOSE_PROJECT_NAME in the environment cannot lead `down` astray.
COMPOSE = $(eval COMPOSE := $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose) \
	--project-name pgnode --project-directory compose --file compose/playground.yml $(if $(S3),--file compose/s3.yml))$(COMPOSE)
# With the node that `make demo` restores; that of `make demo-s3`.
RESTORED = $(COMPOSE) --file compose/restored.yml
RESTORED_S3 = $(COMPOSE) $(if $(S3),,--file compose/s3.yml) --file compose/restored-s3.yml
export SUITE PG_MAJOR IMAGE HAPROXY_IMAGE COMPOSE RESTORED RESTORED_S3 S3 TARGET_DIR BUILD_ARGS

##@ Use
.PHONY: up
up: ## build what is missing, start master, slave, barman host (the third vote) and HAProxy, wait until all are healthy (S3=1: with a bucket)
	@if ! scripts/have cargo docker >/dev/null; then $(MAKE) setup; fi
	@if command -v cargo >/dev/null; then $(MAKE) image; else $(MAKE) image-source; fi
	@$(MAKE) haproxy
	@$(if $(S3),$(MAKE) garage)
	@scripts/up

.PHONY: down
down: ## stop the playground and remove its containers, networks and volumes
	@scripts/secrets
	$(RESTORED_S3) down --volumes --remove-orphans --timeout 60

.PHONY: reset
reset: ## the playground from nothing: down, then up
	@$(MAKE) down
	@$(MAKE) up

.PHONY: logs
logs: ## follow the logs of all nodes
	@$(COMPOSE) logs --follow --tail=100

.PHONY: status
status: ## the status table (NODE=pg1)
	@$(COMPOSE) exec -T $(NODE) pgnode status

.PHONY: psql
psql: ## a superuser session (NODE=pg1), or one statement (SQL='select 1')
	@scripts/psql $(NODE)

.PHONY: shell
shell: ## a shell in a node (NODE=pg1, pg2, barman1)
	@$(COMPOSE) exec $(NODE) bash

.PHONY: seed
seed: ## a small shop: a schema with tables to play with (existing ones stay)
	@scripts/shop seed

.PHONY: rows
rows: ## orders for the shop, one after the other, until Ctrl-C (ROWS=100: so many)
	@scripts/shop rows $(ROWS)

.PHONY: barman
barman: ## barman itself, on the barman host (ARGS='check main', ARGS='list-backups main')
	@$(COMPOSE) exec -T --user barman barman1 barman $(ARGS)

.PHONY: doctor
doctor: ## does the whole chain work? (ARGS=--full: with a backup and a restore of it)
	@$(COMPOSE) exec -T barman1 pgnode doctor $(ARGS)

.PHONY: demo
demo: ## rows, a backup, more rows, a dropped table, and the table back from the moment before; told in plain sentences
	@scripts/demo

.PHONY: demo-s3
demo-s3: ## after `make up S3=1`: every node and every volume is lost, and a new cluster has the rows from the bucket; told in plain sentences
	@scripts/demo-s3

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

.PHONY: garage
garage: # Garage, the S3 server of the tests and the playground: 10 to 20 minutes once, then nothing
	@scripts/garage

.PHONY: s3tools
s3tools: packages # barman-cli-cloud beside PostgreSQL, the older one of bookworm alone, and other tools: what tests hold our S3 against
	@docker/base-image bookworm
	@scripts/docker-build --build-arg BASE=pgnode-packages:$(SUITE) --target tools -t pgnode-s3tools:$(SUITE) docker/s3tools
	@scripts/docker-build --build-arg BASE=debian:bookworm-slim --target tools -t pgnode-s3tools:bookworm docker/s3tools
	@scripts/docker-build --build-arg BASE=pgnode-packages:$(SUITE) --target bench -t pgnode-s3tools:bench docker/s3tools

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

.PHONY: bench-catalogue
bench-catalogue: ## time and memory of looking at large catalogues of backups (made up; a minute after the build, no docker)
	@CARGO_PROFILE_BENCH_LTO=off CARGO_PROFILE_BENCH_CODEGEN_UNITS=16 cargo bench --locked --bench catalogue

.PHONY: bench-failover
bench-failover: image ## time without a writable node, beside Patroni (FAILOVER_RUNS, FAILOVER_ONLY: benches/README.md)
	@scripts/docker-build -t pgnode-patroni -f benches/failover/Dockerfile benches/failover
	@PGNODE_IMAGE=$(IMAGE) cargo bench --locked --profile dev --bench failover

.PHONY: bench-restore
bench-restore: image ## restore of gigabytes against a bare copy and recovery (RESTORE_SCALE, RESTORE_RUNS: benches/README.md)
	@PGNODE_IMAGE=$(IMAGE) cargo bench --locked --profile dev --bench restore

.PHONY: bench-s3
bench-s3: image garage haproxy s3tools ## WAL into a bucket and back, beside barman-cloud and pgBackRest (S3_BENCH_RUNS, S3_BENCH_SEGMENTS, S3_BENCH_ONLY)
	@cp benches/s3/lab $(TARGET_DIR)/image/context/
	@scripts/docker-build -t pgnode-bench-s3 -f benches/s3/Dockerfile $(TARGET_DIR)/image/context
	@cargo bench --locked --profile dev $(foreach crate,pgnode zstd-sys lz4_flex twox-hash,--config profile.dev.package.$(crate).opt-level=3) --bench s3

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
