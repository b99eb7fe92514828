# Every task, with a line each: make help
.DEFAULT_GOAL := help
.PHONY: help build image demo demo-down test e2e chaos crash-points soak soak-model bench bench-follow bench-objects bench-life bench-throughput bench-fetch unit fuzz lint fmt deny generate cluster clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the operator and the simulator
	cargo build --workspace --bins

image: ## Build the container image (buildah, podman or docker); IMAGE=name:tag, ARCHIVE=file
	hack/image.sh

demo: ## See it work: cluster, simulator, operator and samples on this machine
	@hack/demo.sh

demo-down: ## Stop the demo and remove its state
	@hack/demo-down.sh

test: lint ## Run every check and every test; tells how many ran in each suite
	hack/test.sh

e2e: ## Run the tests that need a node (root; installs containerd and buildah): image, chart, operator in a pod
	hack/e2e.sh

chaos: ## Kill the operator 1,000 times under 500 builds and balance the books; renews docs/reliability.md (TENANTRY_CHAOS_… changes size, seed, rates)
	TENANTRY_RELIABILITY=long TENANTRY_CHAOS_BUILDS=$${TENANTRY_CHAOS_BUILDS:-500} \
	    TENANTRY_CHAOS_KILLS=$${TENANTRY_CHAOS_KILLS:-1000} TENANTRY_CHAOS_LIFE_MS=$${TENANTRY_CHAOS_LIFE_MS:-4000} \
	    TENANTRY_CHAOS_REQUESTS=$${TENANTRY_CHAOS_REQUESTS:-60} \
	    cargo test --workspace --features crash-points --test chaos -- --nocapture every_build_is_built_once

crash-points: ## Try every crash point and every bad end of a write; renews docs/reliability.md (long)
	TENANTRY_RELIABILITY=long cargo test --workspace --features crash-points --test crash_points -- --nocapture

soak: ## Ask for 50 builds a minute for an hour (TENANTRY_SOAK_MINUTES): memory, queue and lag may not grow
	hack/bench.sh soak --minutes $${TENANTRY_SOAK_MINUTES:-60}

soak-model: ## Send random sequences through the model for an hour (TENANTRY_SOAK_SECONDS)
	TENANTRY_SOAK_SECONDS=$${TENANTRY_SOAK_SECONDS:-3600} cargo test --workspace --features crash-points --lib -- --nocapture whatever_happens_the_promises_hold

bench: ## Run every bench and renew docs/performance.md, docs/scaling.md and the plots; an error where a target is missed
	hack/bench-all.sh

bench-follow: ## Measure what following 1 to 2,000 builds costs, beside a tenant's bash loops
	hack/bench.sh follow

bench-objects: ## Measure memory and start with up to 10,000 finished BuildRequests, beside a controller-runtime manager
	hack/bench.sh objects --manager "$$(benches/objects/manager/ensure.sh)"

bench-life: ## Measure reconciles, writes and requests of one build's life
	hack/bench.sh life

bench-throughput: ## Measure how many short builds go through in a minute, and what limits them
	hack/bench.sh throughput

bench-fetch: ## Measure fetches beside curl, and the pods (root for those); writes target/bench/fetch.json
	hack/bench-fetch.sh

unit: ## Run the tests that need no cluster
	cargo test --workspace --lib

fuzz: ## Feed every parser of remote bytes with spoilt recordings, each for SECONDS=60 from a fresh start
	TENANTRY_FUZZ_SECONDS=$(or $(SECONDS),60) cargo test --workspace --test fuzz -- --nocapture

lint: ## Format, clippy, docs and licences, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features crash-points --quiet -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --quiet
	hack/deny.sh

fmt: ## Format the sources
	cargo fmt --all

deny: ## Check licences and sources of the dependencies
	hack/deny.sh

generate: ## Renew what is generated: crds/, config/, docs/api.md and the chart's CRDs and README
	TENANTRY_RENEW=1 cargo test --quiet --test crds
	TENANTRY_RENEW=1 cargo test --quiet --test chart generated

cluster: ## Build the test cluster's binary, if it is missing
	tests/cluster/ensure.sh

clean: demo-down ## Remove what was built
	cargo clean
