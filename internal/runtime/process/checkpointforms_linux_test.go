//go:build !race

// Gateways with the race detector map so much that dumps of them take a minute.

package process_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/runtime/runtimetest"
)

// TestCheckpointOnDisk is sealed, where only the server's user can read it, whichever form it had
// before. With PlainCheckpoints it is readable.
func TestCheckpointOnDisk(t *testing.T) {
	for name, test := range map[string]struct{ compressed, plain bool }{
		"fresh": {}, "compressed": {compressed: true}, "fresh, plain": {plain: true}, "compressed, plain": {compressed: true, plain: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSettings(t)
			s.PlainCheckpoints = test.plain
			d := openStoring(t, &s)
			g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
			boot := g.Ask("/boot")
			g.Ask("/use-memory", "bytes", "50000000")
			suspend(t, d, g)
			if test.compressed {
				must(t, process.Compact(t.Context(), d, g.ID))
			}
			move(t, d, g)
			path := process.StoredCheckpoint(d, g.ID)
			for path, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir} {
				if st, err := os.Stat(path); err != nil || st.Mode() != mode {
					t.Errorf("%s: %v, %v", path, st, err)
				}
			}
			data, err := os.ReadFile(path)
			must(t, err)
			clear, err := process.ReadStored(d, g.ID)
			must(t, err)
			if known := bytes.Contains(clear, []byte(g.ID)); known != test.plain { // its environment has it
				t.Errorf("readable: %t", known)
			}
			use, err := d.Checkpoints(t.Context())
			if err != nil || use.OnDisk.Count != 1 || use.OnDisk.Bytes != int64(len(data)) || use.Plain != test.plain {
				t.Errorf("%+v, %v", use, err)
			}
			if seen, err := process.CheckpointUse(s); err != nil || seen.OnDisk != use.OnDisk || seen.Plain != use.Plain {
				t.Errorf("without a driver: %+v, %v", seen, err)
			}
			checkResumes(t, d, g, boot)
		})
	}
}
