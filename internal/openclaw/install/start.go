package install

import (
	_ "embed"
	"encoding/base64"
)

// start is a script that runs before OpenClaw, and becomes the gateway. After an error about a
// key or an account, OpenClaw does not use the provider for up to a day, keeps that in its
// database, and knows no way to end it: a restart does. The model proxy passes no such error
// on, so there are only holds of before it did that, or of an error that it does not know.
//
//go:embed start.mjs
var start string

// preload is a module that Node loads into the gateway before OpenClaw. It stops what an idle
// gateway spends processor time on without any use, keeps what its entries have
// prepared, and leaves answers out of its output. OpenClaw has no setting for any of it. Where another version does it
// in another way, the module changes nothing. OpenClaw's workers do not load it.
//
//go:embed preload.mjs
var preload string

// noInspector makes Node ignore SIGUSR1, at which it would open its inspector, without a
// password, to everything in the network of the gateway.
const noInspector = "--disable-sigusr1"

// smallNursery makes Node collect young objects at 4 MiB in place of 16, in each of its workers too, so
// that a gateway has less memory that a checkpoint must save.
const smallNursery = "--max-semi-space-size=4"

// startFlags make Node run the start script with the arguments of a second Node, which
// becomes the gateway.
func startFlags() []string {
	return []string{
		noInspector, "--disable-warning=ExperimentalWarning", "--input-type=module", "--eval", start, "--",
		noInspector, smallNursery, "--import", "data:text/javascript;base64," + base64.StdEncoding.EncodeToString([]byte(preload)),
	}
}
