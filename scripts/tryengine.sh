#!/bin/sh
# Ends with 0 if a Docker engine can run on this machine: starts one in a temporary directory, as the
# tests do, and stops it.
set -eu

command -v dockerd >/dev/null || exit 1
dir=$(mktemp -d)
dockerd --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" -H "unix://$dir/socket" --iptables=false --ip6tables=false --bridge=none >"$dir/log" 2>&1 &
engine=$!
stop() {
	kill "$engine" 2>/dev/null || true
	wait "$engine" 2>/dev/null || true
	umount "$dir"/exec/netns/* 2>/dev/null || true
	rm -rf "$dir"
}
trap stop EXIT
tries=0
until grep -q "API listen" "$dir/log"; do
	tries=$((tries + 1))
	if [ "$tries" -gt 150 ] || ! kill -0 "$engine" 2>/dev/null; then
		tail -n 3 "$dir/log" >&2
		exit 1
	fi
	sleep 0.2
done
