package process_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/runtime/runtimetest"
)

func failures(found []runtime.Examination) []string {
	var all []string
	for _, e := range found {
		for _, c := range e.Checks {
			if !c.OK {
				all = append(all, fmt.Sprintf("%s: %s: %s", e.ID, c.Name, c.State))
			}
		}
	}
	return all
}

// Every running gateway has what the driver promises, also after the server's end.
func TestExamineFindsTheSandbox(t *testing.T) {
	settings := newSettings(t)
	d := open(t, settings)
	s := runtimetest.Spec(runtimetest.NewID())
	s.Limits = runtime.Limits{MemoryBytes: 1 << 30, Processes: 200}
	g := runtimetest.Start(t, d, s)
	other := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	g.Ask("/sh", "do", "sleep 600 >/dev/null 2>&1 &")
	found, err := d.Examine(t.Context())
	if err != nil || len(found) != 2 || len(failures(found)) > 0 {
		t.Errorf("%+v, %v", found, err)
	}
	for _, e := range found {
		for _, c := range e.Checks {
			if c.Name == "namespaces" && !strings.Contains(c.State, "pid ipc uts mnt cgroup net") {
				t.Errorf("%s: %s", e.ID, c.State)
			}
			if c.Name == "control group" && e.ID == g.ID && c.State != "none: the server watches the memory" && !strings.Contains(c.State, "memory 1073741824") {
				t.Errorf("%s: %s", e.ID, c.State)
			}
		}
	}
	other.Stop(0)
	if found, err = process.Examine(t.Context(), settings.Dir, false); err != nil || len(found) != 1 || found[0].ID != g.ID || len(failures(found)) > 0 {
		t.Errorf("one gateway has ended: %+v, %v", found, err)
	}
}

// A sandbox that gives less than promised is found out.
func TestExamineFindsWhatIsMissing(t *testing.T) {
	for what, taken := range map[string]string{
		"namespaces":   "--unshare-ipc",
		"system calls": "--seccomp\n5",
	} {
		t.Run(what, func(t *testing.T) {
			settings := newSettings(t)
			settings.Bubblewrap = filepath.Join(t.TempDir(), "bwrap")
			// The options are on descriptor 8, each with a NUL after it.
			script := fmt.Sprintf(`#!/usr/bin/perl
use Fcntl; local $/; open(my $in, '<&=', 8) or die; my $o = <$in>; my $t = "%s"; $t =~ tr/\n/\0/; $o =~ s/\Q$t\E\0//;
open(my $out, '+>', undef) or die; syswrite($out, $o); sysseek($out, 0, 0); fcntl($out, F_SETFD, 0); shift; shift;
exec('bwrap', '--args', fileno($out), @ARGV) or die;
`, taken)
			must(t, os.WriteFile(settings.Bubblewrap, []byte(script), 0o755))
			d := open(t, settings)
			g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
			found, err := d.Examine(t.Context())
			if got := failures(found); err != nil || len(got) != 1 || !strings.HasPrefix(got[0], string(g.ID)+": "+what+": process ") {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}
