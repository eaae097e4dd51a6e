package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test binary stand in for the program: started under the name
// agento it is agento, race detector and all.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"agento": main})
}

// TestScripts runs the admin commands as an operator types them: flags, files, output
// and exit codes of the real binary. The HTTP contract has its own scripts in
// internal/api/testdata, which run against the server with scripted gateways.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true})
}
