package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"agento.host/agento/internal/textfile/confined"
)

// TestMain makes the test binary run as agento, with the race detector, when it is
// started under that name.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == confined.Command { // a server of a test reads a file
		main()
		return
	}
	testscript.Main(m, map[string]func(){"agento": main})
}

// TestScripts runs the command line of the real binary: output, exit codes and files.
// The scripts of internal/api have another purpose, the HTTP contract.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true})
}
