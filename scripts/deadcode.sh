#!/bin/sh
# Fails if a function is not reachable from any program or test, or from tests alone.
# Packages that exist for tests (…test, fake, devmodel) and the public Go client are
# checked for the first only.
set -eu
# The Go client is a module of its own: its functions are reached from the tests of the server.
deadcode="${GO:-go} tool -modfile=tools/go.mod deadcode -filter ^agento\\.host/agento/"
found=$($deadcode -test ./...)
found="$found
$($deadcode ./... | grep -v -E '^client/|^internal/([a-z/]+test|runtime/fake|devmodel)/' || true)"
found=$(printf '%s\n' "$found" | grep . | sort -u || true)
[ -z "$found" ] && exit 0
printf '%s\nThese functions are unused: delete them.\n' "$found" >&2
exit 1
