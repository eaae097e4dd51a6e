#!/bin/sh
# Runs every fuzz test of the module for the time given, one after the other.
set -eu
for pkg in $(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do
	for name in $(grep -h '^func Fuzz' "$pkg"/*_test.go | sed 's/func \(Fuzz[A-Za-z0-9_]*\).*/\1/'); do
		echo "fuzz $pkg $name"
		go test -run='^$' -fuzz="^$name\$" -fuzztime="$1" "$pkg" >/tmp/agento-fuzz.$$ 2>&1 || { cat /tmp/agento-fuzz.$$; exit 1; }
	done
done
rm -f /tmp/agento-fuzz.$$
