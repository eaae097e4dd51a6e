package skill

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"agento.host/agento/internal/skill/scan"
)

// Declared is what a skill says that it uses, in `tools:` and `hosts:` of its frontmatter
// or manifest. It is a claim of the author: the files may use more.
type Declared struct {
	Tools []string // of the agent
	Hosts []string // see ParseHost; each once, in the order of the skill
	wrong []string // entries of `hosts:` that are no hosts
}

// Declared returns what the skill says that it uses.
func (m Manifest) Declared() Declared { return declared(m.Tools, m.Hosts) }

func declared(tools, hosts []string) Declared {
	d := Declared{Tools: tools}
	for _, h := range hosts {
		switch host, ok := ParseHost(h); {
		case !ok:
			d.wrong = append(d.wrong, h)
		case !slices.Contains(d.Hosts, host):
			d.Hosts = append(d.Hosts, host)
		}
	}
	return d
}

var hostName = regexp.MustCompile(`^(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ParseHost returns a declared host in lower case: a full name such as api.example.com,
// *.example.com for every name below it, or an IP address, each with an optional port. Of
// an http or https URL it takes the host. It reports whether s is one of these.
func ParseHost(s string) (host string, ok bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" {
			return "", false
		}
		s = u.Host
	}
	if at, err := netip.ParseAddrPort(s); err == nil {
		return at.String(), at.Port() > 0 && at.Addr().Zone() == ""
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.String(), addr.Zone() == ""
	}
	name, port, hasPort := strings.Cut(s, ":")
	name = strings.TrimSuffix(name, ".")
	if len(name) > 253 || !hostName.MatchString(name) {
		return "", false
	}
	if !hasPort {
		return name, true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return fmt.Sprintf("%s:%d", name, n), err == nil && n > 0
}

// findings returns what a person should know about the declaration.
func (d Declared) findings() []scan.Finding {
	if len(d.wrong) == 0 {
		return nil
	}
	return []scan.Finding{{
		Rule: "declares-hosts", Severity: scan.Info, File: mainFile,
		Message: shorten("These entries of hosts are not host names: " + strings.Join(d.wrong, ", ")),
	}}
}
