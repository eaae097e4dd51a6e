#!/bin/sh
# Every benchmark of the module. They print ratios of things measured side by side
# in the same run, since absolute times depend on the machine.
set -eu

quiet() { grep -v -e '^goos' -e '^goarch' -e '^cpu:' -e '^ok' -e '^PASS' -e 'no test files' || true; }

echo "== the API, the model proxy, the limiter, agents, documents, skills"
go test -run='^$' -bench=. -skip=Sleep -benchtime="${BENCHTIME:-1s}" -timeout 30m $(go list ./... | grep -v internal/knowledge) | quiet
echo "== vectors: a scan of 1M x 256 and a read of as much memory; deduplication and a scan"
go test -run='^$' -bench=Million -benchtime=1x -timeout 30m ./internal/knowledge/index | quiet
echo "== knowledge: ingest and search in 10,000 entries; the built-in embedder"
go test -run='^$' -bench=. -benchtime=20x -timeout 30m ./internal/knowledge ./internal/knowledge/embed | quiet
echo "== quality of the search compared to BM25, and the tables of duplicates"
report() { grep -v -e '^=== ' -e '^PASS' -e '^ok' -e '^---'; }
go test -C training -count=1 -v -run=Quality ./quality | report
go test -count=1 -v -run=OnlyTextsThatDifferInForm ./internal/knowledge | report
echo "== sleep, with real gateways (needs root and criu): a wake and a restart, many lives, neighbours, a fleet (cmd/agento/bench_sleep_linux_test.go)"
go test -run='^$' -bench=Sleep -benchtime=1x -timeout 120m ./internal/reconciler ./cmd/agento | quiet
echo "== sleep: a simulated day of 100, 1,000 and 10,000 agents, for each policy (docs/sleep-simulation.md)"
go test -count=1 -v -run=SimulationWhole ./internal/power -whole | report
