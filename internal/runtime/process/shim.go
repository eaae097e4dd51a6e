package process

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
)

// shim is the parent process of a gateway and outlives the server. It writes its
// pid, joins the control groups before any program of the agent runs, and finally
// writes the exit code of the gateway. Until then it holds descriptor 3, the lock
// file. It runs with the server's permissions, so nothing of the agent may get into
// its environment. The traps ignore signals to the process group, which a terminal
// sends, so that the shim does not end before the gateway. It runs in the agent's
// directory, so that its files are there when the directory is moved. Descriptor 6 is
// the home, by which the shim of this directory is recognised; the gateway must not get
// it, because it leads out of the sandbox. The shim has the network namespace of the
// gateway. It waits until it reads "go" from descriptor 7, which the server writes when
// the namespace is ready. The first arguments are for process lists.
const shim = `
nonce=$3; shift 3
trap : HUP INT QUIT TERM
fail() { echo "125 $nonce" >end; exit 125; }
echo "$$ $nonce" >pid || fail
while [ "$1" != -- ]; do echo $$ >"$1" || fail; shift; done; shift
read -r go <&7 && [ "$go" = go ] || fail
exec 7<&-
(cd / && exec "$@") 6<&-
echo "$? $nonce" >end
`

// homeDescriptor is the descriptor of the home in a shim.
const homeDescriptor = "6"

// launcher is the last step before the gateway and runs with the agent's
// permissions. It reads the environment from descriptor 4, where no process list
// shows it. The oom score makes the kernel kill agents before the server when the
// machine's memory is full. The first argument limits the number of processes of
// the agent's user, 0 for no limit; the option of ulimit differs between shells.
const launcher = `
[ "$1" = 0 ] || ulimit -u "$1" 2>/dev/null || ulimit -p "$1" || exit 125
shift
{ echo 500 >/proc/self/oom_score_adj; } 2>/dev/null
env=$(cat <&4) || exit 125
exec 4<&- 5<&-
eval "unset env; $env" || exit 125
cd "$HOME" || exit 125
unset PWD OLDPWD
exec "$@"
`

// initializer is process 1 of a sandbox whose gateway can be suspended, in place of
// bubblewrap's: its program is one that the sandbox has. It waits for the gateway, and for
// processes that the agent leaves behind. It has the user of the server, as bubblewrap's has, so
// that the kernel lets bubblewrap's other process end it.
const initializer = `
exec 3<&- 5<&- 8<&-
"$@"
exit $?
`

// shimName is the name of shims in process lists.
const shimName = "agento-gateway"

var validName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Shells refuse to set these, or treat them specially.
var shellNames = []string{"BASHOPTS", "BASH_VERSINFO", "EUID", "OPTIND", "PPID", "SHELLOPTS", "UID"}

// view has the paths and the ports as a gateway sees them.
type view struct {
	home, temp, secrets string
	port, server        int
}

func (v view) replacer() *strings.Replacer {
	return strings.NewReplacer(runtime.HomePath, v.home, runtime.SecretsPath, v.secrets, runtime.Port, fmt.Sprint(v.port), runtime.ServerAddr, loopback(v.server))
}

func (v view) args(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		out[i] = v.replacer().Replace(arg)
	}
	return out
}

func (v view) files(files map[string][]byte) map[string][]byte {
	out := make(map[string][]byte, len(files))
	for name, data := range files {
		out[name] = []byte(v.replacer().Replace(string(data)))
	}
	return out
}

// environment returns the gateway's whole environment as shell assignments.
func (v view) environment(env map[string]vault.Secret, path string) ([]byte, error) {
	all := make(map[string]string, len(env)+3)
	for name, value := range env {
		all[name] = v.replacer().Replace(value.Reveal())
	}
	all["PATH"], all["HOME"], all["TMPDIR"] = path, v.home, v.temp
	names := make([]string, 0, len(all))
	for name := range all {
		if !validName.MatchString(name) || slices.Contains(shellNames, name) {
			return nil, fmt.Errorf("not a name for an environment variable: %q", name)
		}
		if strings.ContainsRune(all[name], 0) {
			return nil, fmt.Errorf("environment variable %s holds a zero byte", name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "export %s='%s'\n", name, strings.ReplaceAll(all[name], "'", `'\''`))
	}
	return []byte(b.String()), nil
}

// filledPipe returns the reading end of a pipe that already contains all of data,
// so that a reader never gets a part of it.
func filledPipe(data []byte) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	if err := growPipe(w, len(data)); err != nil {
		_, _ = r.Close(), w.Close()
		return nil, fmt.Errorf("the environment of %d bytes is too large: %w", len(data), err)
	}
	if _, err := w.Write(data); err != nil {
		_, _ = r.Close(), w.Close()
		return nil, err
	}
	if err := w.Close(); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}
