// Package pool is about pool servers: the machines that run agents, beside or in place of the
// one that agento runs on. It has their records, the keys with which agento logs in, the
// regions that they serve, what a server lacks, and which server an agent is put on.
package pool

import (
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/runtime/multi"
)

// State is what the operator has decided about a server.
type State string

// The states of a server.
const (
	Active    State = "active"
	Cordoned  State = "cordoned"  // it gets no more agents, and keeps those that it has
	Draining  State = "draining"  // its agents are being moved away
	Abandoned State = "abandoned" // its agents are started elsewhere; what runs there is ended when it returns
)

// Local is the name of the server that agento itself runs on. It is in every pool.
const Local = multi.Local

// DefaultSocket is where Docker's engine listens.
const DefaultSocket = "/var/run/docker.sock"

// Server is a pool server.
type Server struct {
	ID      string
	Name    string
	User    string
	Address string   // host:port of its sshd; empty: Local
	Socket  string   // of its container engine
	Regions []string // that it serves, sorted; of Local none: it serves what no other one does
	Memory  int64    // bytes for agents; 0: there is no limit
	Agents  int      // at most; 0: there is no limit
	State   State

	HostKeys  []ssh.PublicKey // that were confirmed
	PublicKey string          // the line for authorized_keys
	NewKey    string          // the line of the key that replaces it once it has worked; empty: none
	Problem   string          // why nothing is done with it, which the operator must settle; empty: nothing

	CreatedAt time.Time
	ReachedAt time.Time // when its engine has answered last; zero: never
	DiskFree  int64     // bytes, when it was checked last; negative: unknown
}

// IsLocal reports whether it is the server that agento runs on.
func (s Server) IsLocal() bool { return s.Name == Local }

// SSH returns how an operator names the login: user@host, with the port unless it is 22.
func (s Server) SSH() string {
	host, port, err := net.SplitHostPort(s.Address)
	switch {
	case err != nil:
		return ""
	case port == "22":
		return s.User + "@" + host
	}
	return s.User + "@" + s.Address
}

var (
	nameForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
	regionForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	userForm   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?$`)
	hostForm   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)
)

// ParseSSH splits user@host or user@host:port. The port is 22 without one. Faults: Invalid.
func ParseSSH(login string) (user, address string, err error) {
	user, at, ok := strings.Cut(login, "@")
	host, port := at, "22"
	if h, p, err := net.SplitHostPort(at); err == nil {
		host, port = h, p
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	n, portErr := strconv.ParseUint(port, 10, 16)
	if !ok || !userForm.MatchString(user) || (net.ParseIP(host) == nil && !hostForm.MatchString(host)) || portErr != nil || n == 0 {
		return "", "", fault.New(fault.Invalid, "The login %q must be user@host or user@host:port, such as agento@10.0.0.7.", login)
	}
	return user, net.JoinHostPort(host, port), nil
}

// check returns what is wrong with a new server, and puts its regions in order. Faults: Invalid.
func (s *Server) check() error {
	problems := fault.Fields{}
	if !nameForm.MatchString(s.Name) || s.Name == Local {
		problems.Add("name", "must have up to 40 of a-z, 0-9 and -, and not be local")
	}
	if len(s.Regions) == 0 {
		problems.Add("regions", "name at least one")
	}
	slices.Sort(s.Regions)
	s.Regions = slices.Compact(s.Regions)
	for _, r := range s.Regions {
		if !regionForm.MatchString(r) {
			problems.Add("regions", "%q must have up to 32 of a-z, 0-9 and -", r)
		}
	}
	if s.Memory < 0 || s.Agents < 0 {
		problems.Add("memory", "memory and agents must not be negative; 0 is no limit")
	}
	if !strings.HasPrefix(s.Socket, "/") || len(s.Socket) > 100 {
		problems.Add("socket", "must be the path of a socket on the server")
	}
	if len(s.HostKeys) == 0 {
		problems.Add("hostKey", "must be confirmed")
	}
	return problems.Err()
}
