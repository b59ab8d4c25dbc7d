# Everything is built from Go modules at pinned versions: troupe from go.mod; containerd, its runc
# shim and the CNI plugins from tools.mod, so that their dependencies stay out of ours. runc and
# iptables come from the distribution.

BIN     := bin
GO      ?= go
LDFLAGS := -s -w

# The kubectl in troupe says of which release it is, as that of its library.
KUBECTL_VERSION := $(shell awk '$$1 == "k8s.io/kubectl" { sub(/^v0/, "v1", $$2); print $$2 }' go.mod)
TROUPE_LDFLAGS  := $(LDFLAGS) -X k8s.io/component-base/version.gitVersion=$(KUBECTL_VERSION)

# Static programs; and since tests are built alike, they share what has been compiled.
export CGO_ENABLED := 0

# What containerd can do and troupe does not use is left out: quicker to build, smaller in memory.
TOOL_TAGS  := no_btrfs no_devmapper no_zfs no_tracing urfave_cli_no_docs osusergo netgo static_build
TOOL_BUILD := $(GO) build -modfile=tools.mod -trimpath

CONTAINERD         := github.com/containerd/containerd/v2
CONTAINERD_VERSION := $(shell awk '$$1 == "$(CONTAINERD)" { print $$2 }' tools.mod)
CONTAINERD_LDFLAGS := $(LDFLAGS) -X $(CONTAINERD)/version.Version=$(CONTAINERD_VERSION)

CNI         := github.com/containernetworking/plugins/plugins
CNI_PLUGINS := main/bridge ipam/host-local meta/portmap
CNI_BINS    := $(addprefix $(BIN)/cni/,$(notdir $(CNI_PLUGINS)))

TOOLS := $(BIN)/containerd $(BIN)/containerd-shim-runc-v2 $(BIN)/pause $(CNI_BINS)

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: $(BIN)/troupe tools ## build bin/troupe and, beside it, what it runs

.PHONY: $(BIN)/troupe
$(BIN)/troupe:
	$(GO) build -ldflags "$(TROUPE_LDFLAGS)" -o $@ ./cmd/troupe

.PHONY: tools
tools: $(TOOLS) ## build containerd, its shim, the CNI plugins and pause

$(BIN)/containerd: tools.mod
	$(TOOL_BUILD) -tags "$(TOOL_TAGS)" -ldflags "$(CONTAINERD_LDFLAGS)" -o $@ $(CONTAINERD)/cmd/containerd

$(BIN)/containerd-shim-runc-v2: tools.mod
	$(TOOL_BUILD) -tags "$(TOOL_TAGS) no_grpc" -ldflags "$(CONTAINERD_LDFLAGS)" -o $@ $(CONTAINERD)/cmd/containerd-shim-runc-v2

# One link step each, one compile step for all: the plugins share nearly every package.
$(CNI_BINS) &: tools.mod
	@mkdir -p $(BIN)/cni
	$(TOOL_BUILD) -ldflags "$(LDFLAGS)" -o $(BIN)/cni/ $(addprefix $(CNI)/,$(CNI_PLUGINS))

# pause is the only process of a pod's sandbox: see node/host/pause.
$(BIN)/pause: node/host/pause/main.go
	$(GO) build -trimpath -ldflags "$(LDFLAGS)" -o $@ ./node/host/pause

# What the node needs of the distribution. kubectl is no package of Debian 12; tests that want the
# stock one skip without it, and troupe brings its own.
DEPS := runc iptables iproute2 conntrack procps ca-certificates

.PHONY: deps
deps: ## install the Debian packages that are missing (root)
	@missing=$$(dpkg-query -W -f '$${Package} $${db:Status-Abbrev}\n' $(DEPS) 2>/dev/null | awk '$$2 == "ii" { print $$1 }' \
		| sort > /tmp/troupe-deps.$$$$; printf '%s\n' $(DEPS) | sort | comm -23 - /tmp/troupe-deps.$$$$; rm -f /tmp/troupe-deps.$$$$); \
	if [ -n "$$missing" ]; then \
		echo "installing" $$missing; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

.PHONY: demo
demo: deps build ## start a cluster here and run the example application on it (root)
	./testkit/example/demo.sh up

.PHONY: demo-down
demo-down: ## remove every trace of the demo
	./testkit/example/demo.sh down

# Packages whose tests run real containers: one after another, for one machine is not two nodes.
ALONE := ./cmd/troupe ./node ./node/host ./testkit/example

.PHONY: test
test: tools ## run all tests; those with real containers need root
	$(GO) test -timeout 20m $$($(GO) list ./... | grep -vxF "$$($(GO) list $(ALONE))")
	$(GO) test -p 1 -timeout 20m $(ALONE)
	$(MAKE) conformance

# A module of its own, with dependencies of its own.
.PHONY: conformance
conformance: $(BIN)/troupe ## run kubectl, Helm, an operator and client-go against the binary, on simulated nodes
	cd testkit/conformance && TROUPE=$(CURDIR)/$(BIN)/troupe $(GO) test -timeout 10m ./...

ROUNDS ?= 500
MEMBER_ROUNDS ?= 20

.PHONY: soak
soak: tools ## kill a writing control plane ROUNDS times (default 500), and a node at random moments
	TROUPE_SOAK=1 $(GO) test -count 1 -timeout 20m -run TestKilledAtAnyMoment -v ./cmd/troupe
	$(GO) test -count 1 -timeout 0 -run 'TestKillKeepsAcknowledged|TestTornTail|TestChurnIsFlat' ./cluster/state -v -rounds $(ROUNDS) -days 10
	$(GO) test -count 1 -timeout 0 -run TestMembersAreOneStore ./cluster/state -v -member-rounds $(MEMBER_ROUNDS)

.PHONY: race
race: tools ## run all tests under the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout 40m ./...

.PHONY: check
check: ## formatting, vet, and the linters of .golangci.yml
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not gofmt-ed:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	cd testkit/conformance && $(GO) vet ./...
	@if command -v golangci-lint >/dev/null; then golangci-lint run; \
	else echo "golangci-lint is not installed: its rules were not checked (go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@latest)"; fi

.PHONY: bench
bench: build ## run the benchmarks whose figures BENCHMARKS.md shows
	$(GO) test -run '^$$' -bench . -benchtime 1x ./testkit/... ./cluster/... ./node/... ./proxy/... ./actors/...

.PHONY: proto
proto: ## generate proto/*/*.pb.go (needs protobuf-compiler)
	./proto/generate.sh

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN)
