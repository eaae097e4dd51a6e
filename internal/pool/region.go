package pool

import (
	"slices"
	"strings"
)

// contractRegions are the regions that exist without any server.
var contractRegions = []string{"eu", "us"}

// Regions returns every region that an agent can be in, sorted: those of the contract, and
// those that servers were given.
func Regions(servers []Server) []string {
	all := slices.Clone(contractRegions)
	for _, s := range servers {
		all = append(all, s.Regions...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Serves returns the regions that a server of the pool serves. Local serves those that no
// other one was added for; an abandoned one does not count.
func Serves(s Server, servers []Server) []string {
	if !s.IsLocal() {
		return s.Regions
	}
	var all []string
	for _, r := range Regions(servers) {
		if !slices.ContainsFunc(servers, func(o Server) bool { return !o.IsLocal() && o.State != Abandoned && slices.Contains(o.Regions, r) }) {
			all = append(all, r)
		}
	}
	return all
}

func joinRegions(all []string) string { return strings.Join(all, ",") }

func splitRegions(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}
