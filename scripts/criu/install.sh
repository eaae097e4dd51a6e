#!/bin/sh
# Puts a criu that works on current kernels into agento's cache, where agento finds it. criu of
# Debian 12 fails on them; this one is of Debian 13, runs with its own libraries, and changes
# nothing of the machine. Needs apt-get, dpkg and cc.
set -eu

dir="${XDG_CACHE_HOME:-$HOME/.cache}/agento/criu"
source=$(dirname "$(readlink -f "$0")")
[ -x "$dir/criu" ] && exec "$dir/criu" check

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
packages="criu libcompel1 libc6 libprotobuf-c1 libnl-3-200 libnet1 libcap2 libbsd0 libmd0 libuuid1 libnftables1 libgnutls30t64
	libdrm2 libmnl0 libnftnl11 libjansson4 libxtables12 libedit2 libtinfo6 libnettle8t64 libhogweed6t64 libgmp10 libp11-kit0
	libidn2-0 libunistring5 libtasn1-6 libffi8 libbrotli1 libzstd1 zlib1g"
for program in apt-get dpkg cc; do
	command -v "$program" >/dev/null || { echo "criu: $program is missing; install criu 4.1.1 or later by hand" >&2; exit 1; }
done
[ -f "$keyring" ] || { echo "criu: the package debian-archive-keyring is missing" >&2; exit 1; }

mkdir -p "$(dirname "$dir")"
temp=$(mktemp -d "$dir.XXXXXX")
trap 'rm -rf "$temp"' EXIT
mkdir "$temp/lists" "$temp/packages" "$temp/criu"
echo "deb [signed-by=$keyring] http://deb.debian.org/debian trixie main" >"$temp/sources.list"
apt() { apt-get -qq -o "Dir::Etc::sourcelist=$temp/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$temp/lists" "$@"; }
apt update
# shellcheck disable=SC2086 # a list of words
(cd "$temp/packages" && apt download $packages 2>/dev/null)
for package in "$temp"/packages/*.deb; do dpkg -x "$package" "$temp/criu/root"; done
cc -O2 -Wall -shared -fPIC -o "$temp/criu/compat.so" "$source/compat.c"

# The loader's name and the folder of the libraries differ between architectures.
loader=$(cd "$temp/criu/root" && find usr/lib* -name 'ld-linux-*.so.*' | head -n 1)
libraries=$(cd "$temp/criu/root" && dirname "$(find usr/lib -name 'libc.so.6' | head -n 1)")
cat >"$temp/criu/criu" <<EOF
#!/bin/sh
# Every suspend and every wake runs this: it starts no other program but for a symbolic link.
case \$0 in */*) dir=\${0%/*} ;; *) dir=. ;; esac
[ ! -L "\$0" ] || dir=\$(dirname "\$(readlink -f "\$0")")
exec "\$dir/root/$loader" --preload "\$dir/compat.so" --library-path "\$dir/root/$libraries" "\$dir/root/usr/sbin/criu" "\$@"
EOF
chmod 755 "$temp/criu/criu"
rm -rf "$dir"
mv "$temp/criu" "$dir"
"$dir/criu" check
