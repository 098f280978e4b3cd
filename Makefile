# `make` alone lists the targets. CI runs nothing that is not one of them.

# Tools, pinned, so that the same commit is judged the same way everywhere and at any time.
GOLANGCI_LINT_VERSION := v2.15.0
# The PostgreSQL versions of test-postgres: those of npm's @embedded-postgres packages.
POSTGRES_VERSIONS := 14.23.0-beta.17 16.14.0-beta.17 17.10.0-beta.17 18.4.0-beta.17

# To be set by who calls, as in `make fuzz FUZZTIME=5m`.
FUZZTIME ?= 30s
# A whole run takes some minutes; one that hangs should say where, rather than be cut off by CI.
TIMEOUT ?= 15m
GO ?= go

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# nomsgpack leaves out a codec of gin that nothing here uses, and a sixth of the binary. The tests run with it, too:
# what is tested is what is shipped.
TAGS := -tags nomsgpack
GOTEST := $(GO) test $(TAGS) -timeout $(TIMEOUT)
GOLANGCI_LINT := .tools/golangci-lint-$(GOLANGCI_LINT_VERSION)
E2E := api/web/e2e

SHELL := /bin/sh
# The targets of test and check are steps, in order, whatever -j says. Go uses all cores by itself.
.NOTPARALLEL:
.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets.
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##### Run

# By exec, so that a signal to make's child reaches it, with no shell in between.
.PHONY: run
run: deps build ## Start all of it here: Postgres, Redis, two replicas, a balancer and the example page.
	@exec bin/devstack

.PHONY: build
build: ## Build bin/reelay and bin/devstack.
	CGO_ENABLED=0 $(GO) build $(TAGS) -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/ ./cmd/reelay ./cmd/devstack

.PHONY: deps
deps: ## Install PostgreSQL, Redis and HAProxy if this machine lacks them.
	@deploy/local/install.sh

.PHONY: deps-test
deps-test: ## The same, and what the tests need: Node.js, Chromium, a C compiler, curl.
	@deploy/local/install.sh --test

##### Test

.PHONY: test
test: deps-test race e2e ## Run all tests: Go's with the race detector, and the browser's.

# One package after the other: some of them need the whole machine, and would make the others late.
.PHONY: race
race: ## Run Go's tests with the race detector.
	$(GOTEST) -race -p 1 ./...

.PHONY: short
short: ## Run the tests that need no server: seconds.
	$(GOTEST) -short ./...

# The tests by name, one file at a time: where node is named none and finds none, it is content.
.PHONY: e2e
e2e: build $(E2E)/node_modules/.package-lock.json ## Run the browser's test of the example page.
	@CHROMIUM="$$(deploy/local/install.sh --print-browser)" && export CHROMIUM && \
	cd $(E2E) && node --test --test-concurrency=1 *.test.mjs

# npm writes this file when it is done.
$(E2E)/node_modules/.package-lock.json: $(E2E)/package-lock.json
	cd $(E2E) && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

# Its flags go into CHAOS, as in `make chaos CHAOS="--rounds 3 --seed 7"`; --help lists them.
.PHONY: chaos
chaos: deps build ## Break everything in turn, under load, and compare what clients received with what was committed.
	CGO_ENABLED=0 $(GO) build $(TAGS) -o bin/ ./cmd/chaos
	@exec bin/chaos $(CHAOS)

.PHONY: test-postgres
test-postgres: ## Run the tests of pg/ against each version of PostgreSQL that we support.
	@set -e; for version in $(POSTGRES_VERSIONS); do \
		bin=$$(deploy/local/fetch-postgres.sh $$version .tools/postgres); \
		echo "==> pg with PostgreSQL $$version"; \
		REELAY_PG_BIN=$$bin $(GOTEST) -count=1 ./pg/...; \
	done

# Each target by itself, since go test fuzzes one at a time. `go test -list` prints a package's targets, and then its name.
.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (30s).
	@set -e; listed=$$($(GO) test $(TAGS) -list '^Fuzz' ./...); \
	targets=$$(printf '%s\n' "$$listed" | awk '/^Fuzz/ { names = names " " $$1 } /^ok/ { n = split(names, name, " "); for (i = 1; i <= n; i++) print $$2 ":" name[i]; names = "" }'); \
	test -n "$$targets" || { echo "no fuzz targets found" >&2; exit 1; }; \
	for target in $$targets; do \
		echo "==> $$target"; \
		$(GO) test $(TAGS) -run '^$$' -fuzz "^$${target##*:}$$" -fuzztime $(FUZZTIME) "$${target%:*}"; \
	done

# Its flags go into BENCH, as in `make bench BENCH="--quick latency"`; --help explains them, and each table.
BENCH ?= all

.PHONY: bench
bench: deps build ## Measure everything beside its limits, on this machine: twenty minutes, or less than five with BENCH="--quick all".
	CGO_ENABLED=0 $(GO) build $(TAGS) -o bin/ ./cmd/bench
	@exec bin/bench $(BENCH)

.PHONY: bench-go
bench-go: ## Measure single parts: trigger, leader's statement, heads, Redis's memory, delivery, tokens.
	$(GO) test $(TAGS) -run '^$$' -bench . -benchmem -timeout 1h ./...

.PHONY: cover
cover: ## Measure which code the tests reach: bin/cover.html.
	@mkdir -p bin
	$(GOTEST) -coverpkg=./... -coverprofile=bin/cover.out ./...
	@$(GO) tool cover -html=bin/cover.out -o bin/cover.html
	@$(GO) tool cover -func=bin/cover.out | tail -1

##### Judge

.PHONY: check
check: fmt-check vet lint tidy-check generate-check test ## The bar for a push: all of the below, and the tests.

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format the code.
	$(GOLANGCI_LINT) fmt

.PHONY: fmt-check
fmt-check: $(GOLANGCI_LINT) ## Fail if the code is not formatted.
	@diff=$$($(GOLANGCI_LINT) fmt --diff 2>&1) && test -z "$$diff" || { printf '%s\nmake fmt formats this\n' "$$diff" >&2; exit 1; }

.PHONY: vet
vet: ## Run go vet, for Linux and for macOS.
	GOOS=linux $(GO) vet $(TAGS) ./...
	GOOS=darwin $(GO) vet $(TAGS) ./...

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Run the linters of .golangci.yml.
	$(GOLANGCI_LINT) run

.PHONY: tidy-check
tidy-check: ## Fail if go.mod or go.sum is not tidy.
	$(GO) mod tidy -diff

# Compared with what was there, not with the last commit: one may check before committing.
.PHONY: generate-check
generate-check: ## Fail if go generate changes anything.
	@before=$$(git diff; git status --porcelain); $(GO) generate ./...; \
	test "$$before" = "$$(git diff; git status --porcelain)" || { git status --short >&2; echo "go generate changed this: commit it" >&2; exit 1; }

# A name with the version in it: another version is another file.
$(GOLANGCI_LINT):
	GOBIN=$(CURDIR)/.tools $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv .tools/golangci-lint $@

##### Write

.PHONY: migration
migration: ## Begin a new migration: make migration name=add_something
	@case "$(name)" in \
		"" | *[!a-z0-9_]*) echo "usage: make migration name=add_something (lower case, digits, underscores)" >&2; exit 2 ;; \
	esac; \
	last=$$(ls migrations | sed -n 's/^\([0-9]\{5\}\)_.*\.sql$$/\1/p' | sort | tail -1); \
	file=migrations/$$(printf '%05d' $$(expr "$${last:-0}" + 1))_$(name).sql; \
	printf '%s\n%s\n' '-- +goose Up' '-- Why this is, and what a running replica of the version before makes of it.' >"$$file"; \
	echo "$$file"
