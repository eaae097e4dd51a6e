package docker

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// Labels of everything that the driver makes. They say whose an object is; its name alone does not.
const (
	labelInstallation = "agento.installation"
	labelAgent        = "agento.agent"
	labelRole         = "agento.role"
	labelPlace        = "agento.place" // of containers of gateways
	labelEpoch        = "agento.epoch" // of containers of gateways
)

// Roles of objects.
const (
	roleGateway    = "gateway"
	roleFiles      = "files"      // a container that only serves the files of an agent
	roleHome       = "home"       // a volume
	roleQuarantine = "quarantine" // an empty volume that says that another one is in quarantine
)

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// agent is an agent's id with the names of its objects.
type agent struct {
	id           identity.AgentID
	installation string
	dir          string // Dir/<id>
}

func (a agent) container() string { return "agento-" + a.installation + "-" + string(a.id) }

func (a agent) filesContainer() string { return a.container() + "-files" }

// volume returns the name of the agent's home number n, from 1. There are several if some are in
// quarantine.
func (a agent) volume(n int) string {
	if n == 1 {
		return a.container() + "-home"
	}
	return a.container() + "-home-" + strconv.Itoa(n)
}

// quarantined returns the name that an object in quarantine has, or the volume that marks it.
func (a agent) quarantined(name string) string { return quarantinePrefix(a.installation) + name }

func quarantinePrefix(installation string) string { return "agento-" + installation + "-quarantined-" }

// labels returns the labels of an object.
func (a agent) labels(role string) map[string]string {
	return map[string]string{labelInstallation: a.installation, labelAgent: string(a.id), labelRole: role}
}

// owns reports whether an object with these labels is this agent's.
func (a agent) owns(labels map[string]string, role string) bool {
	return labels[labelInstallation] == a.installation && labels[labelAgent] == string(a.id) && labels[labelRole] == role
}

// epochOf returns the number of the start that has made a container; 0: it has none.
func epochOf(labels map[string]string) int64 {
	n, err := strconv.ParseInt(labels[labelEpoch], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

const placePrefix = "docker/"

func newPlace(server, nonce string) runtime.Place {
	return runtime.Place(placePrefix + server + "/" + nonce)
}

// checkPlace returns an error unless the place is one of this server.
func (d *Driver) checkPlace(p runtime.Place) error {
	nonce, ok := strings.CutPrefix(string(p), placePrefix+d.settings.Server+"/")
	if !ok || !validName.MatchString(nonce) {
		return fmt.Errorf("not a place of this container engine: %q", p)
	}
	return nil
}
