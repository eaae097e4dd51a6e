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

// shim is the parent of a gateway and outlives the server. It notes its pid,
// enters the control groups before anything of the agent runs, and notes how
// the gateway ended. It holds descriptor 3, the lock file, until then. It runs
// with the server's rights, so nothing of the agent's may reach its
// environment. The traps are there so that a signal to the process group, as a
// terminal sends it, does not take the shim from the gateway.
const shim = `
pid=$1 end=$2 nonce=$3; shift 3
trap : HUP INT QUIT TERM
fail() { echo "125 $nonce" >"$end"; exit 125; }
echo "$$ $nonce" >"$pid" || fail
while [ "$1" != -- ]; do echo $$ >"$1" || fail; shift; done; shift
"$@"
echo "$? $nonce" >"$end"
`

// inner is the last step before the gateway, with the rights of the agent: it
// takes the environment from descriptor 4, where no process list shows it. The
// kernel is told to prefer agents to the server when the machine's memory ends.
// Its first argument bounds the processes of the agent's user, 0 for no bound;
// shells do not agree on the letter.
const inner = `
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

// shimName is what shims are called in process lists.
const shimName = "agento-gateway"

var goodName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Shells will not have these set to just anything.
var shellNames = []string{"BASHOPTS", "BASH_VERSINFO", "EUID", "OPTIND", "PPID", "SHELLOPTS", "UID"}

// view is where a gateway sees what the server gives it.
type view struct {
	home, temp, secrets string
	port                int
}

func (v view) fill() *strings.Replacer {
	return strings.NewReplacer(runtime.HomePath, v.home, runtime.SecretsPath, v.secrets, runtime.Port, fmt.Sprint(v.port))
}

func (v view) args(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		out[i] = v.fill().Replace(arg)
	}
	return out
}

// environment renders the gateway's whole environment as shell assignments.
func (v view) environment(env map[string]vault.Secret, path string) ([]byte, error) {
	all := make(map[string]string, len(env)+3)
	for name, value := range env {
		all[name] = v.fill().Replace(value.Reveal())
	}
	all["PATH"], all["HOME"], all["TMPDIR"] = path, v.home, v.temp
	names := make([]string, 0, len(all))
	for name := range all {
		if !goodName.MatchString(name) || slices.Contains(shellNames, name) {
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

// filledPipe returns the reading end of a pipe that holds all of data already,
// so that a reader never sees half of it.
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
