package skill_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/skill/skilltest"
)

// Commits have no order: whichever came last is the latest, whatever its hash.
func TestUpgradeWithoutAVersion(t *testing.T) {
	w := newWorld(t)
	const address = "https://github.com/ann/plain"
	w.github.Push(t, "ann/plain", tree("plain", "0"))
	w.install(t, address, skill.Custom)
	for i := range 10 {
		commit := w.github.Push(t, "ann/plain", tree("plain", fmt.Sprint(i+1)))
		up, err := w.Upgrade(t.Context(), acct, key, agent, address, "")
		if err != nil || !up.Changed || up.Version != "0.0.0-git-"+commit[:12] {
			t.Errorf("upgrade %d to %s: %+v, %v", i, commit, up, err)
		}
	}
}

// The registry answers one upgrade late, with what was the latest then. Meanwhile
// another upgrade went further.
func TestAnUpgradeNeverLowersWhatAnotherBrought(t *testing.T) {
	w := newWorld(t)
	publish := func(version string) {
		w.registry.Publish(skilltest.Version{Owner: "ann", Slug: "weather", Version: version, Archive: skilltest.Zip(t, tree("weather", version))})
	}
	publish("1.0.0")
	w.install(t, "@ann/weather", skill.ClawHub)
	publish("1.1.0")
	late, goOn := make(chan struct{}), make(chan struct{})
	var held atomic.Bool
	w.registry.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/api/v1/download" && held.CompareAndSwap(false, true) {
			close(late)
			<-goOn
		}
		return false
	})
	slow := make(chan error, 1)
	var change skill.Change
	go func() {
		var err error
		change, err = w.Upgrade(t.Context(), acct, key, agent, "@ann/weather", "latest")
		slow <- err
	}()
	<-late
	publish("1.2.0")
	if up, err := w.Upgrade(t.Context(), acct, key, agent, "@ann/weather", "latest"); err != nil || up.Version != "1.2.0" {
		t.Errorf("the fast one: %+v, %v", up, err)
	}
	close(goOn)
	if err := <-slow; err != nil || change.Changed || change.Version != "1.2.0" {
		t.Errorf("the slow one: %+v, %v", change, err)
	}
	if list, err := w.List(t.Context(), acct, agent); err != nil || list[0].Version != "1.2.0" {
		t.Errorf("left: %+v, %v", list, err)
	}
}
