#!/bin/sh
# Runs the linters and the generators on the OpenAPI document of a server, and the quick start
# with each generated client on that server: AGENTO_URL and AGENTO_API_KEY name it. Everything
# is made in a temporary directory.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -R "$here/." "$work"
cd "$work"
npm ci --no-audit --no-fund --loglevel=error
PATH="$work/node_modules/.bin:$PATH"
curl -fsS "$AGENTO_URL/openapi.json" -o openapi.json

echo "== redocly, recommended"
redocly lint openapi.json --config redocly.yaml --max-problems 100 2>&1 | tee lint.txt
! grep -q 'You have [0-9]* warning' lint.txt || { echo "redocly has findings" >&2; exit 1; }
echo "== spectral, oas"
spectral lint openapi.json --ruleset spectral.yaml --fail-severity hint

echo "== openapi-typescript, hey-api"
openapi-typescript openapi.json -o typescript/schema.d.ts
openapi-ts -f hey-api.config.ts
tsc -p tsconfig.json
node typescript/out/openapi-fetch.js
node typescript/out/hey-api.js

for generator in oapi-codegen ogen; do
	echo "== $generator"
	cd "$work/$generator"
	case $generator in
	oapi-codegen) mkdir -p api && GOWORK=off go tool oapi-codegen -config config.yaml ../openapi.json ;;
	ogen)
		node streams.mjs
		GOWORK=off go tool ogen --loglevel error --config ogen.yml --target api --package api --clean openapi.json
		;;
	esac
	GOWORK=off go build -o quickstart .
	./quickstart
done
