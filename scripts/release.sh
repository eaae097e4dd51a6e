#!/bin/sh
# Builds static binaries for each platform into dist/, with their checksums and a list of
# what each is made of (CycloneDX, as JSON). The relay, which is the first process of containers, is
# for Linux only: installed beside agento as agento-relay, it is found by agento image build.
set -eu

version=${1:?usage: release.sh VERSION}
go=${GO:-go}
rm -rf dist
mkdir dist
build() { # build PROGRAM PLATFORM
	os=${2%/*} arch=${2#*/}
	name="$1_${version}_${os}_${arch}"
	echo "$name"
	GOOS=$os GOARCH=$arch CGO_ENABLED=0 $go build -trimpath -ldflags "-s -w -X main.version=$version" -o "dist/$name" "./cmd/$1"
	$go tool -modfile=tools/go.mod cyclonedx-gomod bin -json -output "dist/$name.sbom.json" -version "$version" "dist/$name"
}
for platform in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64; do build agento "$platform"; done
for platform in linux/amd64 linux/arm64; do build agento-relay "$platform"; done
cp deploy/agento.service dist/
(cd dist && sha256sum -- * >SHA256SUMS)
echo "dist has the release $version; check it with: sha256sum --check SHA256SUMS"
