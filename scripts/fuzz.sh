#!/bin/sh
# Runs every fuzz test of the module for the count or time given (2000x, 3s), one
# after the other. A count is safer where the machine may stall: with a time, Go's fuzzer
# now and then takes its own deadline for a failure (golang/go issue 75804).
set -eu
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for pkg in $(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do
	for name in $(grep -h '^func Fuzz' "$pkg"/*_test.go | sed 's/func \(Fuzz[A-Za-z0-9_]*\).*/\1/'); do
		echo "fuzz $pkg $name"
		go test -run='^$' -fuzz="^$name\$" -fuzztime="$1" -fuzzminimizetime=100x "$pkg" >"$log" 2>&1 || { cat "$log"; exit 1; }
	done
done
