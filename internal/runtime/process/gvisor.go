package process

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/home"
)

// The values of Settings.Sandbox.
const (
	Bubblewrap = "bubblewrap"
	GVisor     = "gvisor"
)

// With gVisor, an agent's system calls are answered by gVisor's own kernel, a process of
// this machine. Bubblewrap is around that: inside its sandbox are runsc, which is gVisor's
// program, the agent's files, and nothing else. So what breaks out of gVisor is in a sandbox
// still, everything of an agent ends with its shim, and runsc leaves no files behind.
//
// gVisor's processes are in a user namespace of their own, below the one that owns the
// agent's network namespace, so that they can neither change the firewall nor take the
// server's ports. They use that network namespace's sockets directly.

// What is inside bubblewrap's sandbox if gVisor is.
const (
	gvisorProgram = "/runsc"
	gvisorBundle  = "/bundle"  // has the OCI configuration
	gvisorState   = "/run"     // written by runsc
	gvisorView    = "/view"    // becomes the agent's root directory
	gvisorHome    = "/home"    // becomes sandboxHome
	gvisorSecrets = "/secrets" // becomes sandboxSecrets
)

// gvisorContainer is the name of the agent's container, the only one of its gVisor.
const gvisorContainer = "agent"

// gvisorKillTimeout is how long runsc may take to send a signal. Source: 60 ms on an idle
// machine.
const gvisorKillTimeout = 10 * time.Second

// gvisorCapabilities are what runsc needs to make namespaces, to mount in them, and to write
// the oom score of a process of another user.
var gvisorCapabilities = []string{"CAP_DAC_OVERRIDE", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT"}

// errNeedsRoot: an ordinary user has one user id, gVisor needs one for itself and one for
// the agent.
var errNeedsRoot = &runtime.IsolationError{Missing: "gVisor needs root: run the server as root, or with --sandbox bubblewrap"}

// findRunsc returns the path of runsc: the one of the settings, one beside this program, or
// one on PATH. Errors: *runtime.IsolationError.
func (s Settings) findRunsc() (string, error) {
	if s.Runsc != "" {
		return s.Runsc, nil
	}
	if self, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), "runsc")); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath("runsc")
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", &runtime.IsolationError{Missing: "runsc is not installed (make gvisor builds it; put it beside agento or on PATH)"}
	}
	return path, nil
}

// wrapGVisor is wrap with gVisor. Descriptor 5 is the configuration.
func (b sandbox) wrapGVisor(a agent, s Settings, secrets string) []string {
	l := commandLine{b.bwrap,
		"--die-with-parent", "--sync-fd", "3",
		"--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--new-session", "--hostname", sandboxHost,
		"--clearenv", "--cap-drop", "ALL",
	}
	for _, c := range gvisorCapabilities {
		l.add("--cap-add", c)
	}
	l.add("--perms", "0755", "--dir", gvisorView)
	l.bindSystem(gvisorView)
	l.bindEtc(gvisorView, a)
	l.bindPrograms(gvisorView, s)
	for _, dir := range []string{"/proc", "/sys", "/dev", "/tmp", "/home", sandboxHome, "/run", sandboxSecrets} {
		l.add("--perms", "0755", "--dir", gvisorView+dir)
	}
	l.add("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", gvisorState)
	l.add("--ro-bind", b.runsc, gvisorProgram, "--file", "5", gvisorBundle+"/config.json")
	l.add("--bind", a.home, gvisorHome)
	if secrets != "" {
		l.add("--ro-bind", secrets, gvisorSecrets)
	}
	l.add("--remount-ro", "/", "--chdir", "/", "--")
	l.add(gvisorProgram, "--root="+gvisorState, "--platform=systrap", "--network=host", "--ignore-cgroups", "--host-uds=none", "--overlay2=none")
	l.add("run", "--bundle="+gvisorBundle, "--pass-fd=4:4", gvisorContainer)
	return l
}

// ociConfig is the part of an OCI runtime configuration that we use.
type ociConfig struct {
	Version  string     `json:"ociVersion"`
	Process  ociProcess `json:"process"`
	Root     ociRoot    `json:"root"`
	Hostname string     `json:"hostname"`
	Mounts   []ociMount `json:"mounts"`
	Linux    ociLinux   `json:"linux"`
}

type ociProcess struct {
	User            ociUser  `json:"user"`
	Args            []string `json:"args"`
	Env             []string `json:"env"`
	Cwd             string   `json:"cwd"`
	Capabilities    struct{} `json:"capabilities"` // none
	NoNewPrivileges bool     `json:"noNewPrivileges"`
	OOMScoreAdj     int      `json:"oomScoreAdj"`
}

type ociUser struct {
	UID int `json:"uid"`
	GID int `json:"gid"`
}

type ociRoot struct {
	Path     string `json:"path"`
	Readonly bool   `json:"readonly"`
}

type ociMount struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Source      string   `json:"source,omitempty"`
	Options     []string `json:"options,omitempty"`
}

type ociLinux struct {
	UIDMappings []ociMapping   `json:"uidMappings"`
	GIDMappings []ociMapping   `json:"gidMappings"`
	Namespaces  []ociNamespace `json:"namespaces"`
}

type ociMapping struct {
	ContainerID int `json:"containerID"`
	HostID      int `json:"hostID"`
	Size        int `json:"size"`
}

type ociNamespace struct {
	Type string `json:"type"`
}

// gvisorInit is the first process of an agent in gVisor, which bubblewrap is elsewhere. It
// takes the exit code of the gateway, which has the pid gatewayInGVisor, and waits for
// processes whose parents have ended.
const gvisorInit = `
trap : HUP INT QUIT TERM
"$@"
exit $?
`

// gatewayInGVisor is the pid of the gateway inside.
const gatewayInGVisor = "2"

// sentryUser returns the user of gVisor's own processes: nobody, or, if that is the agent's
// user, another one that owns no files of agents.
func sentryUser(agent int) int {
	const nobody = 65534
	if agent == nobody {
		return nobody - 1
	}
	return nobody
}

// configureGVisor returns the OCI configuration for a command of an agent.
func (b sandbox) configureGVisor(owner home.Owner, s Settings, secrets string, command []string) ([]byte, error) {
	mappings := func(agent int) []ociMapping {
		return []ociMapping{{ContainerID: 0, HostID: sentryUser(agent), Size: 1}, {ContainerID: agent, HostID: agent, Size: 1}}
	}
	temporary := []string{"mode=1777"}
	if b.tempBytes > 0 {
		temporary = append(temporary, fmt.Sprintf("size=%d", b.tempBytes))
	}
	c := ociConfig{
		Version: "1.0.0",
		Process: ociProcess{
			User: ociUser{UID: owner.UID, GID: owner.GID},
			Args: append([]string{"/bin/sh", "-c", gvisorInit, "agento-init"}, command...), Env: []string{"PATH=/usr/bin:/bin"}, Cwd: "/",
			NoNewPrivileges: true, OOMScoreAdj: gvisorOOMScore,
		},
		Root:     ociRoot{Path: gvisorView, Readonly: true},
		Hostname: sandboxHost,
		Mounts: []ociMount{
			{Destination: "/proc", Type: "proc"},
			{Destination: "/dev", Type: "tmpfs"},
			{Destination: "/dev/shm", Type: "tmpfs", Options: temporary},
			{Destination: "/tmp", Type: "tmpfs", Options: temporary},
			{Destination: sandboxHome, Type: "bind", Source: gvisorHome, Options: []string{"bind", "rw"}},
		},
		Linux: ociLinux{
			UIDMappings: mappings(owner.UID), GIDMappings: mappings(owner.GID),
			Namespaces: []ociNamespace{{Type: "pid"}, {Type: "ipc"}, {Type: "uts"}, {Type: "mount"}, {Type: "user"}},
		},
	}
	for _, path := range s.programs() {
		if isWithin(path, "/tmp") { // where the mount above would hide it
			c.Mounts = append(c.Mounts, ociMount{Destination: path, Type: "bind", Source: gvisorView + path, Options: []string{"bind", "ro"}})
		}
	}
	if secrets != "" {
		c.Mounts = append(c.Mounts, ociMount{Destination: sandboxSecrets, Type: "bind", Source: gvisorSecrets, Options: []string{"bind", "ro"}})
	}
	return json.Marshal(c)
}

// gvisorOOMScore makes the kernel kill agents before the server, as the launcher does for
// bubblewrap.
const gvisorOOMScore = 500

// The processes and threads that gVisor has on this machine. Source: at rest 40, then 2 for
// each process of the agent.
const (
	gvisorTasks        = 100
	gvisorTasksForEach = 2
)

// limits returns the limits of the control group of a sandbox.
func (b sandbox) limits(l runtime.Limits) runtime.Limits {
	if b.runsc != "" && l.Processes > 0 {
		l.Processes = gvisorTasks + gvisorTasksForEach*l.Processes
	}
	return l
}
