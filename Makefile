# make run and make test are all that a fresh machine needs; both install what
# is missing first.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BINARY  := bin/agento
LINT    := $(GO) tool -modfile=tools/go.mod golangci-lint
FUZZ    ?= 2000x

# SQLite's engine is C that was translated to Go: the race detector finds nothing of ours in it, and
# makes its tests several times slower. A package with generic functions must not be named here: the
# linker could take its uninstrumented ones of sync for all, and races that are none are reported.
# make check vets, so that the tests need not.
RACE := -race -vet=off -gcflags=modernc.org/sqlite/lib=-race=false

# Tests of these packages boot real gateways, each about 1 GB and 30 s: one
# package at a time, so that never more than two boot at once.
GATEWAY := ./internal/openclaw/... ./cmd/agento/...

# The modules of this repository whose go.mod must be tidy. They have go.mod files of their own, so
# that ./... of the first one does not name the packages of the others.
MODULES := . client training tools gvisor clients/tests/oidc

# Programs with the race detector end at once: the tests start hundreds of them.
export GORACE = atexit_sleep_ms=0

.PHONY: run test test-gateways test-rest build gvisor image image-lock check lint fmt tidy deadcode bench chaos pictures fuzz model clients release clean

run: ## Install what is missing, build, and start a server to try.
	sh scripts/needs.sh run
	$(MAKE) build
	$(BINARY) dev

build: ## bin/agento, and the relay of containers beside it.
	$(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o $(BINARY) ./cmd/agento
	GOOS=linux CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/agento-relay ./cmd/agento-relay

gvisor: ## Build runsc, for --sandbox gvisor; its module is pinned by gvisor/go.sum.
	CGO_ENABLED=0 $(GO) build -C gvisor -trimpath -ldflags "-s -w" -o ../bin/runsc gvisor.dev/gvisor/runsc

image: build ## The image that agents run in, with its relay, in the container engine of $DOCKER_HOST.
	$(BINARY) image build --load

image-lock: ## Pin the present Debian packages of the image; needs apt-get.
	$(GO) run ./internal/runtime/image/relock internal/runtime/image/lock/debian.lock

test: ## Install what the tests need and run them all.
	sh scripts/needs.sh test
	$(GO) run ./cmd/agento install
	$(GO) test $(RACE) -timeout 15m $$($(GO) list ./... | grep -v -e /internal/openclaw -e /cmd/agento)
	$(MAKE) --no-print-directory -j2 --output-sync=target test-gateways test-rest # the first mostly waits for gateways

test-gateways:
	$(GO) test $(RACE) -timeout 20m -p 1 $(GATEWAY)

test-rest:
	GO="$(GO)" sh scripts/norace.sh
	$(GO) test -C client -race -timeout 5m ./...
	$(GO) test -C training -race -timeout 15m .
	$(GO) test -C training -timeout 15m ./quality # 1,400 searches; -race makes them 25 times slower

fuzz: ## Every fuzz test, for so many inputs.
	sh scripts/fuzz.sh $(FUZZ)

pictures: ## Make the pictures of docs/dashboard.md anew.
	sh scripts/needs.sh test
	AGENTO_CHAOS=1 AGENTO_TOUR=$(CURDIR)/docs/dashboard $(GO) test -count=1 -timeout 5m -run TestChaosTour ./internal/dashboard

chaos: gvisor ## What is too heavy for make test; make chaos-crash runs one subject.
	sh scripts/needs.sh test
	$(GO) run ./cmd/agento install
	sh scripts/chaos.sh

chaos-gvisor: gvisor
chaos-%:
	sh scripts/needs.sh test
	$(GO) run ./cmd/agento install
	sh scripts/chaos.sh $*

check: fmt tidy lint deadcode ## What must hold before the tests: format, vet, lint, no unused functions.
	$(GO) vet ./...
	$(GO) vet -C client ./...
	$(GO) vet -C training ./...
	$(GO) vet -C clients/tests/openai/go ./...
	$(GO) vet -C clients/tests/oidc ./...
	$(GO) mod verify >/dev/null

fmt:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "not gofmt'ed: run gofmt -w"; exit 1; }

tidy: ## The go.mod of every module names what its packages need, and nothing else.
	@for m in $(MODULES); do $(GO) mod tidy -C $$m -diff || { echo "not tidy: run go mod tidy -C $$m"; exit 1; }; done

lint:
	$(LINT) run ./...
	cd client && $(GO) tool -modfile=../tools/go.mod golangci-lint run ./...

deadcode: ## No function is unused.
	GO="$(GO)" sh scripts/deadcode.sh

bench: ## Ratios, measured side by side in one run.
	sh scripts/bench.sh

model: ## Train the built-in embedding model again; about ten minutes on an idle machine.
	nice -n 15 $(GO) run -C training . -texts ../.cache/texts -out ../internal/knowledge/embed/builtin.model

clients: ## Generate the types of the TypeScript client from the OpenAPI document, and check the client.
	GO="$(GO)" sh scripts/clients.sh

release: ## Static binaries for every platform in dist/, with checksums and SBOMs.
	GO="$(GO)" sh scripts/release.sh $(VERSION)

clean:
	rm -rf bin dist
