# Every target is a command of its own; what they call is in e2e/, deploy/ and Cargo.toml.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help

# The features only choose test targets; all of them together mean one build of the crate for all targets.
ALL := --locked --all-features

# The operator's image, by the name under which clusters are given it.
IMAGE ?= localhost/signalbox:dev
export SIGNALBOX_IMAGE := $(IMAGE)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.* ## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

.PHONY: demo
demo: prerequisites image ## show a rule at work: a kind cluster, the operator, a crash and what the rule makes of it
	e2e/demo

.PHONY: demo-down
demo-down: ## remove what the demo made, and with it the kind cluster unless KUBECONFIG names yours
	if [ -n "$${KUBECONFIG:-}" ]; then e2e/demo down; else e2e/cluster/down; fi

.PHONY: test
test: lint test-unit fuzz test-apiserver e2e ## run everything below: lints and all tests

.PHONY: lint
lint: prerequisites ## check formatting, lints, licences and sources of dependencies
	cargo fmt --all --check
	cargo clippy $(ALL) --all-targets -- -D warnings
	e2e/cargo-deny check bans licenses sources

# The test targets of Cargo.toml that ask for the feature. (--test '*' is refused: it includes those of e2e.)
APISERVER_TESTS = $(shell sed -n '/^\[\[test\]\]/{N;N;s/.*name = "\(.*\)"\nrequired-features = \["apiserver"\]/--test \1/p}' Cargo.toml)
# The others. Named one by one and with all features, so that the library is built once for all tests.
UNIT_TESTS = $(addprefix --test ,$(filter-out $(APISERVER_TESTS),$(basename $(notdir $(wildcard tests/*.rs)))))

.PHONY: test-unit
test-unit: prerequisites ## run the tests that need nothing: unit, property and simulated-time tests
	cargo test $(ALL) --no-fail-fast --lib --bins $(UNIT_TESTS)

.PHONY: fuzz
fuzz: prerequisites ## run random expressions and texts for FUZZ_SECONDS (30) each; SEED=… begins with what a failure named
	FUZZ_SECONDS=$${FUZZ_SECONDS:-30} cargo test $(ALL) --test fuzz -- --nocapture --test-threads=3

.PHONY: test-apiserver
test-apiserver: prerequisites ## run the tests against a real API server, which they start themselves
	@e2e/prerequisites servers
	SIGNALBOX_KUBE=$$(e2e/cluster/program kube) SIGNALBOX_HELM=$$(e2e/cluster/program helm) \
	  cargo test $(ALL) --no-fail-fast $(APISERVER_TESTS)

# Most of what these tests do is wait: they run side by side, on however few processors.
.PHONY: e2e
e2e: prerequisites image ## run the end-to-end tests on kind, or on the cluster that KUBECONFIG names
	cargo test $(ALL) --test on_kind --no-run
	if [ -z "$${KUBECONFIG:-}" ]; then e2e/cluster/up; fi
	e2e/cluster/load-image "$$(e2e/images/build)"
	e2e/cluster/load-image "$$(e2e/images/servers)"
	e2e/cluster/load-image $(IMAGE)
	e2e/cluster/run cargo test --offline $(ALL) --test on_kind -- --test-threads=8
	e2e/cluster/run kubectl delete namespace -l signalbox-e2e=true --wait=false

.PHONY: simulate
simulate: prerequisites ## run the simulation of crashes for longer: SEED (1) is the first run, RUNS (2000) how many
	SEED=$${SEED:-1} RUNS=$${RUNS:-2000} cargo test --release $(ALL) --lib simulation -- --nocapture

.PHONY: chaos
chaos: prerequisites ## kill the operator at random under load: KILLS (20) times, at RATE (500) events a second
	KILLS=$${KILLS:-20} RATE=$${RATE:-500} SIGNALBOX_KUBE=$$(e2e/cluster/program kube) cargo bench $(ALL) --bench chaos

.PHONY: bench-matching
bench-matching: prerequisites ## measure how many events a thread compares with 1,000 to 100,000 rules
	cargo bench $(ALL) --bench matching

.PHONY: bench-latency
bench-latency: prerequisites ## measure the time from an event to its effect, beside the API server's own
	SIGNALBOX_KUBE=$$(e2e/cluster/program kube) cargo bench $(ALL) --bench latency

.PHONY: bench-bus
bench-bus: prerequisites ## measure what it takes until events are on stable storage, beside fdatasync on the same disk
	cargo bench $(ALL) --bench bus

.PHONY: bench-backlog
bench-backlog: prerequisites ## measure what it costs that WAITING firings wait for a sink that hangs, and what other rules notice
	WAITING=$${WAITING:-60000} SIGNALBOX_KUBE=$$(e2e/cluster/program kube) cargo bench $(ALL) --bench backlog

.PHONY: bench-webhook
bench-webhook: prerequisites ## measure how fast webhooks are answered, by one sender and by 64
	SIGNALBOX_KUBE=$$(e2e/cluster/program kube) cargo bench $(ALL) --bench webhook

.PHONY: bench-limit
bench-limit: prerequisites ## see whether the operator lives within LIMIT_MIB of memory, with 10,000 Pods and 20,000 events (as root)
	LIMIT_MIB=$${LIMIT_MIB:-128} SIGNALBOX_KUBE=$$(e2e/cluster/program kube) cargo bench $(ALL) --bench limit

.PHONY: bench-restart
bench-restart: prerequisites ## measure how long a killed process takes to its first decision with a log of 1 GiB
	cargo bench $(ALL) --bench restart

.PHONY: bench-memory
bench-memory: prerequisites ## measure what the operator needs for nothing, 10,000 Pods and 1,000 rules
	SIGNALBOX_KUBE=$$(e2e/cluster/program kube) cargo bench $(ALL) --bench memory

.PHONY: crds
crds: prerequisites ## make the definitions in crds/ and in the chart from the types
	cargo build --locked --bin signalbox
	for kind in EventRule EventSink EventSource; do \
	  file=$$(tr A-Z a-z <<<$$kind)s.yaml; \
	  cargo run --quiet --locked --bin signalbox -- crds $$kind >target/$$file; \
	  cp target/$$file crds/$$file; \
	  mv target/$$file charts/signalbox/crds/$$file; \
	done

.PHONY: chart
chart: ## check the chart, and render it to deploy/manifests for those without Helm
	helm=$$(e2e/cluster/program helm); \
	$$helm lint --strict charts/signalbox; \
	$$helm template signalbox charts/signalbox -n signalbox-system --include-crds --skip-tests >target/signalbox.yaml; \
	mv target/signalbox.yaml deploy/manifests/signalbox.yaml

.PHONY: image
image: prerequisites ## build the operator's image IMAGE: static, not root, on an empty base
	deploy/image.sh $(IMAGE)

.PHONY: plugin
plugin: prerequisites ## build the kubectl plug-in: put target/release/kubectl-signalbox in your PATH
	cargo build --release --locked --bin kubectl-signalbox

.PHONY: cluster-up
cluster-up: ## make the kind cluster; use it by e2e/cluster/run kubectl ...
	e2e/cluster/up

.PHONY: sample-images
sample-images: ## give the kind cluster, where it can pull none, images by the names that samples have
	e2e/images/stand-ins

.PHONY: cluster-down
cluster-down: ## remove the kind cluster; what was built for it is kept
	e2e/cluster/down

.PHONY: prerequisites
prerequisites:
	@e2e/prerequisites build
