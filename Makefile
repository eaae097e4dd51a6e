# make run and make test are all that a fresh machine needs; both install what
# is missing first.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BINARY  := bin/agento
LINT    := $(GO) tool -modfile=tools/go.mod golangci-lint
FUZZ    ?= 2000x

# Tests of these packages boot real gateways, each about 1 GB and 30 s: one
# package at a time, so that never more than two boot at once.
GATEWAY := ./internal/openclaw/... ./cmd/agento/...

.PHONY: run test build check lint fmt bench fuzz model clean

run: ## Install the agent runtime, build, and start a server to try.
	sh scripts/needs.sh
	$(MAKE) build
	$(BINARY) install
	$(BINARY) dev

build:
	$(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o $(BINARY) ./cmd/agento

test: ## Install what the tests need and run them all.
	sh scripts/needs.sh
	$(GO) run ./cmd/agento install
	$(GO) test -race -timeout 15m $$($(GO) list ./... | grep -v -e /internal/openclaw -e /cmd/agento)
	$(GO) test -race -timeout 20m -p 1 $(GATEWAY)
	$(MAKE) fuzz

fuzz: ## Every fuzz test, for so many inputs.
	sh scripts/fuzz.sh $(FUZZ)

check: fmt lint ## What must hold before the tests: format, vet, lint.
	$(GO) vet ./...
	$(GO) mod verify >/dev/null

fmt:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "not gofmt'ed: run gofmt -w"; exit 1; }

lint:
	$(LINT) run ./...

bench: ## Ratios, measured side by side in one run.
	sh scripts/bench.sh

model: ## Train the embedding model inside the binary anew; about ten minutes on an idle machine.
	nice -n 15 $(GO) run ./internal/knowledge/embed/train -texts .cache/texts -out internal/knowledge/embed/builtin.model

clean:
	rm -rf bin
