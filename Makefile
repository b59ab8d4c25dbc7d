# Everything is built from Go modules at pinned versions: troupe from go.mod; containerd, its runc
# shim and the CNI plugins from tools.mod, so that their dependencies stay out of ours. runc and
# iptables come from the distribution.

BIN     := bin
GO      ?= go
LDFLAGS := -s -w

# What containerd can do and troupe does not use is left out: quicker to build, smaller in memory.
TOOL_TAGS  := no_btrfs no_devmapper no_zfs no_tracing urfave_cli_no_docs osusergo netgo static_build
TOOL_BUILD := CGO_ENABLED=0 $(GO) build -modfile=tools.mod -trimpath

CONTAINERD         := github.com/containerd/containerd/v2
CONTAINERD_VERSION := $(shell awk '$$1 == "$(CONTAINERD)" { print $$2 }' tools.mod)
CONTAINERD_LDFLAGS := $(LDFLAGS) -X $(CONTAINERD)/version.Version=$(CONTAINERD_VERSION)

CNI         := github.com/containernetworking/plugins/plugins
CNI_PLUGINS := main/bridge main/loopback ipam/host-local meta/portmap
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
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o $@ ./cmd/troupe

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
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o $@ ./node/host/pause

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN)
