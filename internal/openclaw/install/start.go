package install

import _ "embed"

// start is a script that runs before OpenClaw, and becomes the gateway. After an error about a
// key or an account, OpenClaw does not use the provider for up to a day, keeps that in its
// database, and knows no way to end it: a restart does. The model proxy passes no such error
// on, so there are only holds of before it did that, or of an error that it does not know.
//
//go:embed start.mjs
var start string

// startFlags make Node run the script with the arguments of a second Node. A flag that loads
// it into the gateway would run it in every worker of OpenClaw, too.
func startFlags() []string {
	return []string{"--disable-warning=ExperimentalWarning", "--input-type=module", "--eval", start, "--"}
}
