package install

import "errors"

// Status is the state of the runtime on this machine.
type Status struct {
	Version   string // the version that this binary needs
	Dir       string // the folder of that version
	Installed bool
	Fix       string // what to do; empty if nothing
}

// Inspect returns whether the runtime is installed, and what to do if not.
func Inspect(s Settings) Status {
	st := Status{Version: "OpenClaw " + OpenClawVersion}
	dir, err := s.versionDir()
	if err != nil {
		st.Fix = err.Error() + "; set HOME, or set a runtime folder"
		return st
	}
	st.Dir = dir
	if _, st.Installed = Find(s); st.Installed {
		return st
	}
	if _, err := runtimeIn(dir); err != nil {
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
