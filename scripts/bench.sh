#!/bin/sh
# Every benchmark of the module. They print ratios of things measured side by side
# in the same run, since absolute times depend on the machine.
set -eu
go run ./cmd/agento install
go test -run='^$' -bench=. -benchtime="${BENCHTIME:-1s}" -timeout 30m $(go list ./... ) | grep -v -e '^goos' -e '^goarch' -e '^ok' -e '^PASS' -e 'no test files'
