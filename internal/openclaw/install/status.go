package install

import (
	"errors"
	"os"
	"path/filepath"
)

// Status is what `agento doctor` tells about the runtime.
type Status struct {
	Version   string   // the version this binary wants
	Dir       string   // where it is, or would be
	Installed bool     // it is there
	Runtime   Runtime  // if Installed
	Others    []string // folders of other versions; delete them when no agent runs on them
	Fix       string   // what to do, empty if nothing
}

// Inspect looks at what is installed and says what is missing and how to fix it.
func Inspect(s Settings) Status {
	st := Status{Version: "OpenClaw " + OpenClawVersion}
	dir, err := s.home()
	if err != nil {
		st.Fix = err.Error() + "; set HOME, or name a runtime folder"
		return st
	}
	st.Dir = dir
	st.Others = others(dir)
	if st.Runtime, st.Installed = Find(s); st.Installed {
		return st
	}
	if _, err := at(dir); err != nil {
		st.Fix = err.Error()
		return st
	}
	if _, err := s.npm(); errors.Is(err, ErrNoNPM) {
		st.Fix = err.Error()
		return st
	}
	st.Fix = "the agent runtime is not installed yet: `agento serve` fetches it at its next start (700 MB, about a minute)"
	return st
}

func others(dir string) (found []string) {
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != filepath.Base(dir) {
			found = append(found, filepath.Join(filepath.Dir(dir), e.Name()))
		}
	}
	return found
}
