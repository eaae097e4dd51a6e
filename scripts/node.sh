#!/bin/sh
# Prints the directory of the Node that agento install has downloaded for gateways. The tests of
# TypeScript need one that runs it (22.18 or later), which distributions often do not have.
set -eu
node=$(ls -d "${XDG_CACHE_HOME:-$HOME/.cache}"/agento/runtime/*/node/node_modules/node-*/bin/node 2>/dev/null | tail -1)
[ -n "$node" ] || { echo "no Node of agento: run agento install" >&2; exit 1; }
dirname "$node"
