# The two commands to begin with are `make demo` and `make test`.

SHELL := /bin/bash
GO ?= go
BIN := bin
TOOLS := .tools

GOLANGCI_VERSION := v2.15.0
GOTESTSUM_VERSION := v1.13.0

PROTO_TOOLS := $(TOOLS)/protogen $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-connect-go
PROTOGEN := $(TOOLS)/protogen -module github.com/marketdatastore/mds -plugin $(TOOLS)/protoc-gen-go -plugin $(TOOLS)/protoc-gen-connect-go
PROTO := feedback/rpc/feedback.proto

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## install what building needs: a C compiler, for DuckDB
	@scripts/deps

.PHONY: build
build: deps ## build bin/mds
	@echo "building $(BIN)/mds (the first build compiles and links DuckDB: a minute or two)"
	@CGO_ENABLED=1 $(GO) build -o $(BIN)/mds ./cmd/mds

.PHONY: demo
demo: build ## load and query a synthetic week of minute bars
	@$(BIN)/mds demo

.PHONY: test
test: deps $(TOOLS)/gotestsum ## run all tests
	@scripts/deps-test
	@CGO_ENABLED=1 $(TOOLS)/gotestsum --format pkgname-and-test-fails -- $(TESTFLAGS) ./...

.PHONY: race
race: ## run all tests under the race detector
	@$(MAKE) --no-print-directory test TESTFLAGS="-race $(TESTFLAGS)"

.PHONY: smoke
smoke: deps ## write and read each kind in a store of its own, in a second
	@CGO_ENABLED=1 $(GO) run ./internal/smoke

.PHONY: test-dsn
test-dsn: deps ## run the conformance suite in the store DSN, such as duckdb://DIR
	@test -n "$(DSN)" || { echo "say which store: make test-dsn DSN=duckdb://DIR" >&2; exit 2; }
	@MDS_TEST_DSN="$(DSN)" CGO_ENABLED=1 $(GO) test -tags dsn ./store -run '^TestDSN$$' -count=1 -v | grep -E -- '--- |^ok|^FAIL|_test.go'; exit $${PIPESTATUS[0]}

.PHONY: bench
bench: deps ## measure each hot stage, for benchstat (BENCH=name, COUNT=10, BENCHTIME=1s)
	@CGO_ENABLED=1 $(GO) test -run '^$$' -bench '$(or $(BENCH),.)' -benchmem -benchtime $(or $(BENCHTIME),1s) -count $(or $(COUNT),1) . ./codec ./codec/arrow ./ingest ./store/duckdb ./store/postgres

.PHONY: bench-policies
bench-policies: deps ## measure what rollups cost, how fast they are made, and compressed chunks (BENCH=name)
	@scripts/deps-test
	@CGO_ENABLED=1 $(GO) test ./store -run '^$$' -bench '$(or $(BENCH),Rollups|Refresh|Compressed|Filled)' -benchtime 1x -timeout 60m -v

.PHONY: bench-peers
bench-peers: ## measure the coordinator beside the queue of the OpenTelemetry Collector, in a module of its own
	@cd internal/bench/exporterhelper && $(GO) run .

.PHONY: contend
contend: deps ## have ten connections to PostgreSQL in each other's way for CONTEND (default 1m)
	@scripts/deps-test
	@CGO_ENABLED=1 $(GO) test ./store/postgres -run '^TestContention$$' -count=1 -v -contend $(or $(CONTEND),1m) | grep -E -- '--- |^ok|^FAIL|_test.go'; exit $${PIPESTATUS[0]}

.PHONY: apart
apart: deps ## have clients of two tenants hammer the same series for APART (default 1m), directly and through PgBouncer
	@scripts/deps-test
	@CGO_ENABLED=1 $(GO) test ./store/postgres -run '^TestTenantsStayApart$$' -count=1 -v -apart $(or $(APART),1m) | grep -E -- '--- |^ok|^FAIL|_test.go'; exit $${PIPESTATUS[0]}

.PHONY: withstand
withstand: deps ## have mds serve take bodies of 5 GB in each form, and 10,000 idle connections (20 minutes, 1 GB of disk)
	@scripts/deps-test
	@CGO_ENABLED=1 $(GO) test ./cmd/mds -run '^(TestServe|TestUpload|TestIdle)' -count=1 -v -timeout 90m -upload 5000 -idle 10000 | grep -E -- '--- |^ok|^FAIL|_test.go'; exit $${PIPESTATUS[0]}

.PHONY: fuzz
fuzz: deps ## fuzz each parser for FUZZTIME (default 30s)
	@for target in ./codec:FuzzCSV ./codec:FuzzNDJSON ./codec:FuzzParseTime ./codec:FuzzSimple ./codec:FuzzISO ./codec:FuzzShort ./codec:FuzzJSONArray ./codec/arrow:FuzzReader .:FuzzParseTimeframe .:FuzzParseOCC .:FuzzParseDecimal .:FuzzParsePeriod ./internal/policyfile:FuzzRead ./internal/config:FuzzLoad ./feedback:FuzzEventReader ./internal/deadletter:FuzzLines ./internal/deadletter:FuzzDecode ./internal/apikey:FuzzParse ./internal/backfill:FuzzURL ./store/duckdb:FuzzParseKeys; do \
		CGO_ENABLED=1 $(GO) test "$${target%:*}" -run '^$$' -fuzz "^$${target#*:}$$" -fuzztime $(or $(FUZZTIME),30s) -fuzzminimizetime 20x || exit 1; \
	done

.PHONY: lint
lint: deps $(TOOLS)/golangci-lint ## vet, lint, check formatting and go.mod
	@$(GO) mod tidy -diff
	@CGO_ENABLED=1 $(GO) vet -tags dsn ./...
	@CGO_ENABLED=1 $(TOOLS)/golangci-lint run ./...

.PHONY: generate
generate: $(PROTO_TOOLS) ## generate Go from feedback/rpc/feedback.proto
	@$(PROTOGEN) -out . $(PROTO)

.PHONY: generate-check
generate-check: $(PROTO_TOOLS) ## check that generated Go is what feedback.proto says
	@set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; $(PROTOGEN) -out "$$tmp" $(PROTO); \
		diff -ru feedback/rpc/feedbackv1 "$$tmp/feedback/rpc/feedbackv1" || \
		{ echo "feedback/rpc/feedbackv1 is not what $(PROTO) says: run make generate" >&2; exit 1; }

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN) $(TOOLS)

$(TOOLS)/gotestsum: Makefile
	@echo "installing gotestsum $(GOTESTSUM_VERSION)"
	@GOBIN=$(CURDIR)/$(TOOLS) GOFLAGS= $(GO) install gotest.tools/gotestsum@$(GOTESTSUM_VERSION) && touch $@

$(TOOLS)/golangci-lint: Makefile
	@echo "installing golangci-lint $(GOLANGCI_VERSION) (it compiles for a minute or two)"
	@GOBIN=$(CURDIR)/$(TOOLS) GOFLAGS= $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION) && touch $@

# The compiler is a module of its own; the plugins are of the versions that go.mod has.
$(TOOLS)/protogen: internal/protogen/main.go internal/protogen/go.mod
	@echo "installing protogen"
	@cd internal/protogen && CGO_ENABLED=0 GOBIN=$(CURDIR)/$(TOOLS) GOFLAGS= $(GO) install . && touch $(CURDIR)/$@

$(TOOLS)/protoc-gen-go: go.mod
	@echo "installing protoc-gen-go"
	@CGO_ENABLED=0 GOBIN=$(CURDIR)/$(TOOLS) GOFLAGS= $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go && touch $@

$(TOOLS)/protoc-gen-connect-go: go.mod
	@echo "installing protoc-gen-connect-go"
	@CGO_ENABLED=0 GOBIN=$(CURDIR)/$(TOOLS) GOFLAGS= $(GO) install connectrpc.com/connect/cmd/protoc-gen-connect-go && touch $@
