//go:build !linux

package homecopy

import (
	"context"
	"os"
)

// dataRanges returns nil: files are read with their holes.
func dataRanges(*os.File, stat) []Range { return nil }

// cloneFile reports that it cannot.
func cloneFile(_, _ *os.File, _ int64) bool { return false }

// lockDatabase does without locks: whether a database has changed is seen by its times.
func lockDatabase(context.Context, place, *os.File) (unlock func(), writes bool) {
	return func() {}, false
}
