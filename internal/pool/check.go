package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/pool/sshlink"
)

// Finding is one thing that a server needs, and whether it has it.
type Finding struct {
	What    string
	OK      bool
	Warning bool     // if not OK: agents run nevertheless
	State   string   // what was found
	Repair  []string // commands for the server, or for the operator's machine, and words where no command helps
}

// The oldest engine that agento works with is Docker 20.10, whose API is 1.41.
const leastAPI = 41

// leastDisk is how much of a server's disk should be free, in bytes.
const leastDisk = 5 << 30

// checkTimeout is for all of a Check.
const checkTimeout = 2 * time.Minute

// Check looks what a server lacks. It begins with the connection; what cannot be looked at
// because something before it is missing is not in the result. It stores that the engine has
// answered, and how much of the disk is free. Faults: NotFound.
func (s *Service) Check(ctx context.Context, name string) ([]Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	n, err := s.Find(ctx, name)
	if err != nil {
		return nil, err
	}
	if n.IsLocal() {
		return s.checkLocal(ctx, n)
	}
	link, err := s.Connect(n)
	if refused := (*fault.Fault)(nil); errors.As(err, &refused) {
		return []Finding{{What: "host key", State: n.Problem, Repair: confirmCommands(n)}}, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = link.Close() }()
	all := []Finding{checkLogin(ctx, n, link)}
	if !all[0].OK {
		return all, nil
	}
	e := newEngine(link.Dialer(n.Socket))
	defer e.close()
	found, answered := checkEngine(ctx, n, e, func(err error) Finding { return socketFinding(ctx, n, link, err) })
	all = append(all, found...)
	if !answered {
		return all, nil
	}
	return s.checkContents(ctx, n, e, append(all, Finding{
		What: "idle memory", Warning: true, State: "idle agents keep their memory: the login may only forward, so that it cannot write memory.reclaim of the containers",
		Repair: []string{"nothing needs to be done; give the server swap, and the kernel moves idle memory there when it is short: fallocate -l 16G /swapfile && chmod 600 /swapfile && mkswap /swapfile && swapon /swapfile"},
	}))
}

// checkLogin connects and logs in.
func checkLogin(ctx context.Context, n Server, link *sshlink.Link) Finding {
	err := link.Connect(ctx)
	changed, login := (*sshlink.HostKeyError)(nil), (*sshlink.LoginError)(nil)
	host, port, _ := net.SplitHostPort(n.Address)
	switch {
	case err == nil:
		return Finding{What: "connection", OK: true, State: "logged in as " + n.SSH()}
	case errors.As(err, &changed):
		return Finding{What: "host key", State: changed.Error(), Repair: confirmCommands(n)}
	case errors.As(err, &login):
		return Finding{What: "login", State: "the server refuses the login of " + n.User, Repair: loginCommands(n)}
	}
	return Finding{What: "connection", State: err.Error(), Repair: []string{
		"on the server: systemctl enable --now ssh",
		"on the server: ss -ltn 'sport = :" + port + "'",
		"from here: nc -vz " + host + " " + port,
	}}
}

func confirmCommands(n Server) []string {
	return []string{
		"on the server's own console: for k in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $k; done",
		"if it shows the new fingerprint: agento servers check " + n.Name + " --host-key SHA256:…",
	}
}

func loginCommands(n Server) []string {
	var lines []string
	for _, line := range []string{n.PublicKey, n.NewKey} {
		if line != "" {
			lines = append(lines, "on the server, as "+n.User+": mkdir -p -m 700 ~/.ssh && echo '"+line+"' >> ~/.ssh/authorized_keys && chmod 600 ~/.ssh/authorized_keys")
		}
	}
	return append(lines, "if that is done already: sshd -T | grep -E 'pubkeyauthentication|authorizedkeysfile|allowusers|permitrootlogin', and the reason in journalctl -u ssh")
}

// socketFinding says why the engine's socket cannot be opened.
func socketFinding(ctx context.Context, n Server, link *sshlink.Link, err error) Finding {
	forwarding := []string{
		"on the server: echo 'AllowStreamLocalForwarding yes' > /etc/ssh/sshd_config.d/10-agento.conf && systemctl reload ssh",
		"on the server: sshd -T -C user=" + n.User + " | grep -E 'allowstreamlocalforwarding|disableforwarding'",
		"on the server: grep agento- ~" + n.User + "/.ssh/authorized_keys, which must begin with " + strings.TrimSpace(keyOptions),
	}
	socket := []string{
		"on the server: systemctl enable --now docker (or, with Podman, podman.socket, and give agento its path by --socket)",
		"on the server: ls -l " + n.Socket,
		"on the server: usermod -aG docker " + n.User,
	}
	refused, prohibited := (*sshlink.RefusedError)(nil), (*sshlink.ForwardingError)(nil)
	switch {
	case errors.As(err, &prohibited):
		return Finding{What: "forwarding", State: "sshd does not forward to sockets", Repair: forwarding}
	case errors.As(err, &refused) && link.Forwards(ctx):
		return Finding{What: "engine", State: n.Socket + " cannot be opened: nothing listens there, or " + n.User + " may not use it", Repair: socket}
	case errors.As(err, &refused):
		return Finding{What: "engine", State: n.Socket + " cannot be opened, and sshd does not say why: it does not forward to sockets (AllowStreamLocalForwarding), nothing listens there, or " + n.User + " may not use it", Repair: append(forwarding, socket...)}
	}
	return Finding{What: "engine", State: err.Error(), Repair: []string{"on the server: journalctl -u docker -n 50"}}
}

// checkEngine looks whether the engine answers and is new enough.
func checkEngine(ctx context.Context, n Server, e *engine, unreachable func(error) Finding) (all []Finding, answered bool) {
	var v engineVersion
	if err := e.get(ctx, "/version", &v); err != nil {
		return []Finding{unreachable(err)}, false
	}
	f := Finding{What: "engine", OK: true, State: fmt.Sprintf("%.50s, API %.20s", v.Version, v.APIVersion)}
	major, minor, _ := strings.Cut(v.APIVersion, ".")
	if n, err := strconv.Atoi(minor); err != nil || major != "1" || n < leastAPI {
		f.OK, f.State = false, f.State+": agento needs Docker 20.10 or Podman 4.3 (API 1."+strconv.Itoa(leastAPI)+")"
		f.Repair = []string{"on the server: apt-get install docker.io, or the packages of https://docs.docker.com/engine/install/"}
	}
	return []Finding{f}, true
}

// checkContents looks what the engine has, and adds it to what was found.
func (s *Service) checkContents(ctx context.Context, n Server, e *engine, all []Finding) ([]Finding, error) {
	free := int64(-1)
	var info engineInfo
	var images []engineImage
	if broken := errors.Join(e.get(ctx, "/info", &info), e.get(ctx, "/images/json", &images)); broken != nil {
		return append(all, Finding{What: "engine", State: broken.Error(), Repair: []string{"on the server: journalctl -u docker -n 50"}}), ctx.Err()
	}
	all = append(all, checkSeccomp(info), checkLimits(info))
	if s.Image != "" {
		has := slices.ContainsFunc(images, func(i engineImage) bool {
			return slices.Contains(i.RepoTags, s.Image) || slices.Contains(i.RepoTags, "docker.io/"+s.Image) || slices.Contains(i.RepoTags, "localhost/"+s.Image)
		})
		all = append(all, checkImage(n, s.Image, has))
		if has {
			var f Finding
			f, free = checkDisk(ctx, e, s.Image)
			all = append(all, f)
		}
	}
	return all, s.Reached(ctx, n, free)
}

func checkSeccomp(info engineInfo) Finding {
	for _, o := range info.SecurityOptions {
		if strings.HasPrefix(o, "name=seccomp") && !strings.Contains(o, "profile=unconfined") {
			return Finding{What: "seccomp", OK: true, State: "on"}
		}
	}
	return Finding{What: "seccomp", State: "the engine does not limit system calls, which agents must not do without", Repair: []string{
		"on the server: grep CONFIG_SECCOMP_FILTER /boot/config-$(uname -r), which must say y",
		"on the server: remove seccomp-profile from /etc/docker/daemon.json and --seccomp-profile from the engine's flags, then systemctl restart docker",
	}}
}

func checkLimits(info engineInfo) Finding {
	if info.MemoryLimit && info.PidsLimit {
		return Finding{What: "limits", OK: true, State: "memory and processes, cgroup v" + info.CgroupVersion}
	}
	return Finding{What: "limits", State: "the engine cannot limit memory or processes of containers", Repair: []string{
		"on the server: add cgroup_enable=memory swapaccount=1 to GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub && reboot",
		"rootless, on the server: systemctl edit user@.service, with Delegate=cpu cpuset io memory pids",
	}}
}

func checkImage(n Server, image string, has bool) Finding {
	if has {
		return Finding{What: "image", OK: true, State: image}
	}
	load := "agento image build --load"
	if !n.IsLocal() {
		host, port, _ := net.SplitHostPort(n.Address)
		load = "with a login that may start programs: agento image build -o - | ssh -p " + port + " " + n.User + "@" + host + " docker load"
	}
	return Finding{What: "image", State: image + " is missing: agents cannot be placed there", Repair: []string{load}}
}

func checkDisk(ctx context.Context, e *engine, image string) (Finding, int64) {
	free, err := e.freeDisk(ctx, image)
	switch {
	case err != nil:
		return Finding{What: "disk", Warning: true, State: "how much is free is not known: " + err.Error()}, -1
	case free < leastDisk:
		return Finding{What: "disk", State: formatBytes(free) + " free, and " + formatBytes(leastDisk) + " should be", Repair: []string{"on the server: docker system df", "on the server: docker image prune --all", "on the server: df -h $(docker info -f '{{.DockerRootDir}}')"}}, free
	}
	return Finding{What: "disk", OK: true, State: formatBytes(free) + " free"}, free
}

// checkLocal checks the machine that agento runs on. Without an engine, it runs agents as processes.
func (s *Service) checkLocal(ctx context.Context, n Server) ([]Finding, error) {
	if s.Engine != "" {
		n.Socket = s.Engine
	}
	e := newEngine(func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "unix", n.Socket) })
	defer e.close()
	all, answered := checkEngine(ctx, n, e, func(err error) Finding {
		f := Finding{What: "engine", Warning: true, State: "none: agents run as processes here, which agento doctor checks", Repair: []string{"only if they should run as containers: apt-get install docker.io"}}
		if errors.Is(err, os.ErrPermission) {
			f.State, f.Repair = n.Socket+" may not be opened by the user of this command", []string{"usermod -aG docker " + strconv.Itoa(os.Getuid()) + ", which makes that user root of this machine"}
		}
		return f
	})
	if !answered {
		return all, nil
	}
	return s.checkContents(ctx, n, e, append(all, checkReclaim()))
}

// checkReclaim looks whether memory of idle containers can be given back.
func checkReclaim() Finding {
	const root = "/sys/fs/cgroup"
	f := Finding{What: "idle memory", Warning: true}
	switch _, err := os.Stat(root + "/cgroup.controllers"); {
	case runtime.GOOS != "linux" || err != nil:
		f.State, f.Repair = "idle agents keep their memory: memory.reclaim needs cgroup v2", []string{"add systemd.unified_cgroup_hierarchy=1 to GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub && reboot"}
	case unix.Access(root, unix.W_OK) != nil:
		f.State, f.Repair = "idle agents keep their memory: this user may not write memory.reclaim of containers", []string{"run agento serve as root, or leave it: agents work nevertheless"}
	default:
		return Finding{What: "idle memory", OK: true, State: "memory.reclaim can be written"}
	}
	return f
}
