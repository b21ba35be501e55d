# `make` lists what there is. Targets that need Debian packages or Kubernetes' programs install them (`needs`); all need
# Rust, and a C compiler.

export SQLX_OFFLINE := true
export CARGO_TARGET_DIR ?= $(CURDIR)/target
export PATH := $(or $(NIKS3_PROGRAMS),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/niks3/bin):$(PATH)

HELM_TEMPLATE = helm template niks3 charts/niks3-operator --skip-tests --namespace niks3-system --kube-version 1.33.0

.PHONY: help demo test check unit story model chaos chaos-mutants scale build release plugin generate needs bench down

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: needs build ## The whole product on a real cluster, step by step
	@cargo run --quiet --package niks3-e2e
	@echo "The cluster is still up: export KUBECONFIG=$(CURDIR)/.state/cluster/kubeconfig. 'make down' ends it."

test: needs check unit story ## Everything: formats, lints, tests on real PostgreSQL, S3 and Kubernetes, the demo
	@echo "Everything passed."

check: needs ## Formatting, lints, generated files, layers
	@echo "-- formatting"
	@cargo fmt --all --check
	@echo "-- lints: warnings are errors"
	@cargo clippy --quiet --workspace --all-targets -- --deny warnings
	@echo "-- generated files are up to date"
	@cargo run --quiet --package niks3-operator -- crd --write crds
	@cargo run --quiet --package niks3-operator -- crd --write charts/niks3-operator/files/crds
	@cargo run --quiet --package niks3-operator -- reference --write docs/reference.md
	@git diff --exit-code -- crds charts/niks3-operator/files/crds docs/reference.md
	@{ e2e/manifests-head; $(HELM_TEMPLATE); } | diff - manifests/install.yaml || { echo "run: make generate"; exit 1; }
	@helm lint --quiet charts/niks3-operator
	@echo "-- licences and sources of dependencies"
	@if cargo deny --version > /dev/null 2>&1; then cargo deny --offline check licenses bans sources; \
	  else echo "   cargo-deny is not installed: licences are not checked here (cargo install cargo-deny)"; fi

unit: needs ## All tests but the demo, on real PostgreSQL, S3, API server and Nix
	@e2e/cluster/programs minio
	@echo "-- tests of protocol, server, client and operator"
	@e2e/services cargo test --quiet
	@echo "-- tests of the server once more, on another S3 server: MinIO"
	@# A legal hold there keeps a version, and deletes go through.
	@NIKS3_TEST_S3=minio e2e/services cargo test --quiet --package niks3-server --test it -- --skip what_the_bucket_refuses_to_delete
	@echo "-- a cache moves to another database and bucket, as docs/embedded.md says it"
	@e2e/cluster/packages rclone
	@cargo build --quiet --bin niks3-server --bin niks3
	@e2e/services e2e/moving $(CARGO_TARGET_DIR)/debug
	@echo "-- layers, what the image is built from, and what documents show of a terminal"
	@cargo test --quiet --package niks3-e2e --lib --test layers --test image --test recording
	@echo "-- the model of docs/gc.md: every state of its first size, and each rule switched off"
	@cargo test --quiet --release --package niks3-model --test holds -- --nocapture
	@cargo test --quiet --release --package niks3-model --lib --test mutants
	@echo "-- chaos: the promise of docs/gc.md on the real thing, with kills and failing networks, for two minutes"
	@cargo test --quiet --package niks3-chaos --package niks3-bench
	@$(MAKE) --no-print-directory chaos DURATION=90s

story: needs build ## The demo as a test
	@echo "-- the story on a real cluster"
	@cargo build --quiet --bin kubectl-niks3
	@PATH="$(abspath $(CARGO_TARGET_DIR))/debug:$$PATH" cargo test --quiet --package niks3-e2e --test story -- --nocapture

model: ## The model of docs/gc.md at its larger sizes too, with counts (half an hour)
	@cargo test --quiet --release --package niks3-model -- --include-ignored --nocapture --test-threads 1

bench: needs build ## The figures of docs/benchmarks.md (20 minutes; NIKS3_BENCH_PEER=DIR adds niks3 1.7)
	@e2e/cluster/packages nginx wrk
	@echo "-- a real closure of Debian packages"
	@mkdir -p .state && e2e/bench/debian-closure .state/closure firefox-esr libreoffice-writer python3-pandas > .state/roots
	@echo "-- measuring"
	@NIKS3_BENCH_PROGRAMS=$(CARGO_TARGET_DIR)/release NIKS3_BENCH_ROOTS=.state/roots TMPDIR=/dev/shm \
	  e2e/services cargo run --quiet --release --package niks3-bench -- --write docs/benchmarks.md

chaos: needs ## Pushes, collections, kills and failing networks for DURATION (10m), then a judge (docs/chaos.md)
	@cargo build --quiet --package niks3-server --package niks3-chaos
	@e2e/services $(CARGO_TARGET_DIR)/debug/niks3-chaos run --duration $(or $(DURATION),10m) $(CHAOS)

chaos-mutants: needs ## Build servers with one rule of docs/gc.md switched off, and see chaos catch each (20 minutes the first time)
	@cargo build --quiet --package niks3-chaos
	@e2e/services $(CARGO_TARGET_DIR)/debug/niks3-chaos mutants --folder $(CARGO_TARGET_DIR)/chaos-mutants

scale: needs ## A thousand caches and policies: from cold to reconciled, memory, an hour of looking again (5 minutes, docs/operator.md)
	@cargo build --quiet --release --package niks3-operator
	@NIKS3_OPERATOR=$(CARGO_TARGET_DIR)/release/niks3-operator \
	  cargo test --quiet --package niks3-operator --test it -- --ignored --nocapture a_thousand_of_each

build: ## The three programs, optimised (8 minutes on 2 cores the first time)
	@echo "-- building niks3-operator, niks3-server and niks3"
	@cargo build --quiet --release --bin niks3-operator --bin niks3-server --bin niks3

release: ## The same for publishing, with their crates inside and their provenance beside, which are read back (docs/releasing.md)
	@e2e/cluster/packages
	@cargo auditable --version > /dev/null 2>&1 || cargo install --quiet --locked cargo-auditable@0.7.7
	@echo "-- building niks3-operator, niks3-server and niks3 with the lists of their crates"
	@e2e/provenance $(CARGO_TARGET_DIR)/release \
	  cargo auditable build --quiet --release --locked --bin niks3-operator --bin niks3-server --bin niks3
	@NIKS3_RELEASE=$(CARGO_TARGET_DIR)/release cargo test --quiet --package niks3-e2e --test release -- --ignored
	@echo "$(CARGO_TARGET_DIR)/release: niks3-operator niks3-server niks3 niks3.provenance.json"

plugin: ## `kubectl niks3`, optimised (docs/kubectl-niks3.md)
	@cargo build --quiet --release --package niks3-operator --bin kubectl-niks3
	@echo "$(CARGO_TARGET_DIR)/release/kubectl-niks3: put it where your PATH finds it"

generate: needs ## CRDs, the chart's copy of them, docs/reference.md, manifests/install.yaml
	cargo run --quiet --package niks3-operator -- crd --write crds
	cargo run --quiet --package niks3-operator -- crd --write charts/niks3-operator/files/crds
	cargo run --quiet --package niks3-operator -- reference --write docs/reference.md
	{ e2e/manifests-head; $(HELM_TEMPLATE); } > manifests/install.yaml

needs: ## Debian packages, and Kubernetes' programs built from source (13 minutes on 2 cores the first time)
	@echo "-- packages and programs"
	@e2e/cluster/packages
	@e2e/cluster/programs

down: ## End the cluster that the demo started; packages, programs and what was built stay
	e2e/cluster/down
