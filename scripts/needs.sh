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
fi
# Without criu agents do not sleep, and its tests are skipped: that is no failure.
if [ "$(uname)" = Linux ] && [ "$(id -u)" = 0 ]; then
	case $(criu --version 2>/dev/null) in
	*"Version: 4."[1-9]* | *"Version: "[5-9]*) ;;
	*) sh "$(dirname "$0")/criu/install.sh" >/dev/null || echo "without criu 4.1 or later agents cannot be suspended" >&2 ;;
	esac
fi
root=""
[ "$(id -u)" = 0 ] || root="sudo -n" # which asks for no password

# install installs packages. It fails if this machine does not let us.
install() {
	command -v apt-get >/dev/null && $root true 2>/dev/null || return 1
	echo "installing: $*"
	# shellcheck disable=SC2086 # $root is a list of words
	$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null 2>&1 ||
		{ $root apt-get update -qq && $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null; }
}

# Without a Docker engine, which needs root, and sshd, their tests are skipped: that is no failure. Where
# systemd runs, the package of sshd would start it, and open a port that nobody asked for.
if [ "${1:-}" = test ] && [ "$(uname)" = Linux ]; then
	engine=""
	command -v dockerd >/dev/null || engine="docker.io"
	command -v busybox >/dev/null || engine="$engine busybox-static"
	command -v sshd >/dev/null || [ -x /usr/sbin/sshd ] || [ -d /run/systemd/system ] || engine="$engine openssh-server"
	# shellcheck disable=SC2086 # a list of words
	[ -z "$engine" ] || install $engine || echo "without $engine some tests of containers and pool servers are skipped" >&2
fi
[ -n "$wants" ] || exit 0
# shellcheck disable=SC2086 # a list of words
if install $wants; then
	exit 0
fi
echo "missing: $wants (on Debian and Ubuntu: sudo apt-get install $wants)" >&2
command -v npm >/dev/null && [ "${1:-}" = run ]
