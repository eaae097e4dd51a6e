package install

import (
	_ "embed"
	"net/url"
)

// forgetHolds is a script that Node runs before OpenClaw. After an error about a key or an
// account, OpenClaw does not use the provider for up to a day, keeps that in its database,
// and knows no way to end it: a restart does. The model proxy passes no such error on, so
// there are only holds of before it did that, or of an error that it does not know.
//
//go:embed holds.mjs
var forgetHolds string

// forgetHoldsFlag makes Node run the script, in the gateway's sandbox like the gateway.
func forgetHoldsFlag() string {
	return "--import=data:text/javascript," + url.PathEscape(forgetHolds)
}
