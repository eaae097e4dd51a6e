#!/bin/sh
# Installs what running or testing agento needs, where it is missing
# and this machine lets us. Says what to install by hand where it does not.
set -eu

command -v go >/dev/null || { echo "agento needs Go 1.26 or newer: https://go.dev/dl" >&2; exit 1; }
command -v npm >/dev/null || wants="npm"
command -v bwrap >/dev/null || wants="${wants:-} bubblewrap"
[ -n "${wants:-}" ] || exit 0

if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
	echo "installing:$wants"
	export DEBIAN_FRONTEND=noninteractive
	# shellcheck disable=SC2086 # a list of packages
	apt-get install -y -qq $wants >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq $wants >/dev/null; }
elif [ "$(uname)" = Linux ]; then
	echo "missing:$wants (on Debian and Ubuntu: sudo apt-get install$wants)" >&2
	case "$wants" in *npm*) exit 1 ;; esac
fi
