#!/bin/sh
# Installs what running (needs.sh run) or testing (needs.sh test) needs, where it
# is missing and this machine lets us. Says what to install by hand where it does not.
# agento dev can run without a sandbox, the tests cannot.
set -eu

command -v go >/dev/null || { echo "agento needs Go 1.26 or newer: https://go.dev/dl" >&2; exit 1; }
wants=""
command -v npm >/dev/null || wants="npm"
if [ "${1:-}" = test ]; then # the examples of the reference run in Python too, the dashboard in a browser
	command -v python3 >/dev/null || wants="$wants python3"
	[ "$(uname)" != Linux ] || command -v chromium >/dev/null || wants="$wants chromium"
fi
if [ "$(uname)" = Linux ]; then
	command -v bwrap >/dev/null || wants="$wants bubblewrap"
	command -v setpriv >/dev/null || wants="$wants util-linux"
	# Without root no Docker engine can run for the tests, which are skipped then; so are those of
	# sshd. Where systemd runs, the package would start it, and open a port that nobody asked for.
	if [ "${1:-}" = test ] && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
		command -v dockerd >/dev/null || wants="$wants docker.io"
		command -v sshd >/dev/null || [ -x /usr/sbin/sshd ] || wants="$wants openssh-server"
		command -v busybox >/dev/null || wants="$wants busybox-static"
		command -v sshd >/dev/null || [ -x /usr/sbin/sshd ] || [ -d /run/systemd/system ] || wants="$wants openssh-server"
	fi
fi
# Without criu agents do not sleep, and its tests are skipped: that is no failure.
if [ "$(uname)" = Linux ] && [ "$(id -u)" = 0 ]; then
	case $(criu --version 2>/dev/null) in
	*"Version: 4."[1-9]* | *"Version: "[5-9]*) ;;
	*) sh "$(dirname "$0")/criu/install.sh" >/dev/null || echo "without criu 4.1 or later agents cannot be suspended" >&2 ;;
	esac
fi
[ -n "$wants" ] || exit 0

root=""
[ "$(id -u)" = 0 ] || root="sudo -n" # which asks for no password
# shellcheck disable=SC2086 # $root and $wants are lists of words
if command -v apt-get >/dev/null && $root true 2>/dev/null; then
	echo "installing: $wants"
	install="$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $wants"
	if $install >/dev/null 2>&1 || { $root apt-get update -qq && $install >/dev/null; }; then
		exit 0
	fi
fi
echo "missing: $wants (on Debian and Ubuntu: sudo apt-get install $wants)" >&2
command -v npm >/dev/null && [ "${1:-}" = run ]
