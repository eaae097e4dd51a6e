#!/bin/sh
# Runs what is too long or too heavy for make test, one subject at a time; each takes
# at most 30 minutes on two cores. Without a subject it runs all of them.
#
#   crash   servers, gateways and drivers are killed at many points, several times over
#   disk    a full disk, no inodes, a read-only file system, a locked database and a clock
#           that is set back, each with running gateways; needs root, to mount file systems
#   walls   one agent, or one key, uses up each thing that all share, while the turns of
#           another account are timed; with real gateways
#   gvisor  the process driver's tests, the conformance suite among them, and a real gateway,
#           with --sandbox gvisor; needs root, and bin/runsc, which make gvisor builds
#   suspend a real gateway sleeps and wakes many times, and its server is killed on the way; a bot of
#           Telegram wakes it; needs root, and criu, which scripts/needs.sh gets
#   checkpoints  the same with checkpoints on the disk; criu is killed, too, the disk is full in a move, and
#           the memory in a dump; needs root and criu
#   freeze  a real gateway is frozen and thawed, and its server is killed on the way; doctor --wake
#   restore the pages for operators with live gateways, restores of living installations, and
#           restores that are killed
#   openai  the real clients of OpenAI's API, which clients/tests/openai pins, with broken
#           connections, and with a real gateway
#   mcp     the official conformance suite of MCP, from npm, against /v1/mcp
#   clients the built TypeScript client with Node 20 and Deno, both from npm
#   examples  every example of the reference in every language; make test runs all in curl, and one of
#           each kind in the others
#   generators  the linters of the OpenAPI document, and the quick start with the clients of four generators
#   screens the reference in Chromium, at 390 and 1440 pixels, light and dark; the pictures are in a temporary
#           directory, or in $SCREENS_DIR
#   dashboard  every page of the dashboard in Chromium: at 390 and 1440 pixels, light and dark, with axe-core, hostile
#           texts, 20 tabs, proxies that buffer and servers that are restarted; sign-in by a real OpenID provider;
#           pictures as above
#   widget  the chat widget in Chromium, in a page of another origin with a strict policy: lost connections, tokens, an
#           input method, hostile texts, axe-core; pictures as above
#   image   the whole image that agents run in, from two installations of OpenClaw, and a container of it; needs root
#           and dockerd
#   containers  the driver of container engines with engines that are killed, answers that are lost, connections that are cut
#           and starts that are interrupted; the relay; needs root, to run dockerd
#   servers agents on a pool server whose sshd and dockerd are killed, and whose packets are lost, while they are
#           used, stopped and started; needs root, dockerd and sshd
#   fuzz    every fuzz test; make test runs their corpora alone
set -eu

race='-race -gcflags=modernc.org/sqlite/lib=-race=false' # see the Makefile

needsRoot() { [ "$(id -u)" = 0 ] || { echo "$1 needs root" >&2; exit 1; }; }

crash() {
	go test $race -count=3 -timeout 25m -run 'Crash|Killed|AcrossServers' ./internal/reconciler ./internal/runtime/process/...
	AGENTO_CHAOS=1 go test $race -count=2 -timeout 25m -p 1 -run 'Crash' ./cmd/agento
}

disk() {
	go test $race -timeout 5m -run 'Disk|Inodes|Locked' ./internal/database ./internal/api
	AGENTO_CHAOS=1 go test $race -timeout 20m -p 1 -v -run 'Disk' -skip 'Sleeping' ./cmd/agento
}

walls() { AGENTO_CHAOS=1 go test -timeout 29m -p 1 -v -run 'Hogs' ./cmd/agento; }

gvisor() {
	needsRoot gVisor
	[ -x bin/runsc ] || { echo "no bin/runsc: run make gvisor" >&2; exit 1; }
	tests='GVisor|Contract|Network|AgentReaches|DialEnters|MemoryLimit|ShimKilled|NoSecret|Logs|Inherited|Remove|ServerKilled|HomeDescriptor|StalePid|Ownership|Quarantine'
	PATH="$PWD/bin:$PATH" AGENTO_TEST_SANDBOX=gvisor go test $race -count=1 -timeout 20m -run "$tests" ./internal/runtime/process
	PATH="$PWD/bin:$PATH" AGENTO_TEST_SANDBOX=gvisor go test -count=1 -timeout 20m -p 1 -v -run GVisor ./cmd/agento
}

suspend() {
	needsRoot criu
	AGENTO_CHAOS=1 go test -count=1 -timeout 29m -p 1 -v -run '^TestSleepingGateway$|SleepingGatewayOfABot' ./cmd/agento
}

checkpoints() {
	needsRoot criu
	go test $race -count=3 -timeout 10m -run 'CRIUFails|KilledInSuspend|KilledInMove|NoRoomForAMove|MemoryFullInADump|ResumeDuringAMove' ./internal/runtime/process
	AGENTO_CHAOS=1 go test -count=1 -timeout 25m -p 1 -v -run 'SleepingGateway(OnDisk|KilledOnDisk|OnFullDisk)' ./cmd/agento
}

freeze() { AGENTO_CHAOS=1 go test -count=1 -timeout 20m -p 1 -v -run 'FrozenGateway|DoctorMeasures' ./cmd/agento; }

restore() { AGENTO_CHAOS=1 go test -timeout 20m -p 1 -v -run 'ChaosRestore|ChaosCopy|ChaosOperatorPages|CrashOfARestore' ./cmd/agento; }

openai() {
	AGENTO_CHAOS=1 go test -count=1 -timeout 15m -v -run 'OpenAIClients' ./internal/api
	AGENTO_CHAOS=1 go test -count=1 -timeout 15m -p 1 -v -run 'OpenAIClients' ./cmd/agento
}

mcp() {
	dir=$(mktemp -d)
	cp scripts/mcp/package.json scripts/mcp/package-lock.json "$dir"
	npm ci --silent --prefix "$dir"
	PATH="$(sh scripts/node.sh):$PATH" AGENTO_MCP_CONFORMANCE="$dir" go test -count=1 -timeout 5m -v -run MCPConformance ./internal/api
	rm -rf "$dir"
}

clients() {
	dir=$(mktemp -d)
	cp -r clients/typescript/. "$dir"
	rm -rf "$dir/node_modules" "$dir/dist"
	(
		cd "$dir"
		PATH="$(cd "$OLDPWD" && sh scripts/node.sh):$PATH"
		npm ci --silent
		npm run --silent build
		npx tsc --outDir "$dir" --noEmit false --allowImportingTsExtensions false --rewriteRelativeImportExtensions --module NodeNext --target ES2023 --skipLibCheck --types node test/client.test.ts
		npm i --silent --no-save --prefix "$dir" node@20.20.2 deno@2.9.6
	)
	AGENTO_RUNTIMES="$dir" go test -count=1 -timeout 5m -v -run TypeScriptRuntimes ./internal/api
	rm -rf "$dir"
}

examples() { AGENTO_CHAOS=1 go test -count=1 -timeout 20m -v -run '^TestExamples' ./internal/api; }

generators() { AGENTO_CHAOS=1 go test -count=1 -timeout 29m -v -run GeneratedClients ./internal/api; }

screens() { AGENTO_CHAOS=1 go test -count=1 -timeout 10m -v -run Screens ./internal/api; }

dashboard() {
	dir=$(mktemp -d)
	cp scripts/axe/package.json scripts/axe/package-lock.json "$dir"
	npm ci --silent --prefix "$dir"
	AGENTO_CHAOS=1 AGENTO_AXE="$dir" go test -count=1 -timeout 28m -v -run '^TestChaos|^TestOIDC' ./internal/dashboard
	rm -rf "$dir"
}

widget() {
	dir=$(mktemp -d)
	cp scripts/axe/package.json scripts/axe/package-lock.json "$dir"
	npm ci --silent --prefix "$dir"
	AGENTO_CHAOS=1 AGENTO_AXE="$dir" go test -count=1 -timeout 15m -v -run '^TestChaos' ./internal/widget/door
	rm -rf "$dir"
}

image() {
	needsRoot dockerd
	AGENTO_CHAOS=1 go test -count=1 -timeout 20m -v ./internal/runtime/image
}

containers() {
	needsRoot dockerd
	AGENTO_CHAOS=1 go test $race -count=3 -timeout 25m ./internal/runtime/docker ./internal/runtime/relay
}

servers() {
	needsRoot dockerd
	AGENTO_CHAOS=1 go test $race -count=2 -timeout 10m -skip '^TestChaos' ./internal/pool/engines ./internal/pool/sshlink
	AGENTO_CHAOS=1 go test $race -count=1 -timeout 20m -v -run '^TestChaos' ./internal/pool/engines
}

fuzz() { sh scripts/fuzz.sh 20000x; }

for subject in ${*:-crash disk walls gvisor restore suspend checkpoints freeze openai mcp clients examples generators screens dashboard widget image containers servers fuzz}; do
	echo "== $subject"
	began=$(date +%s)
	"$subject"
	echo "== $subject passed in $(($(date +%s) - began)) s"
done
