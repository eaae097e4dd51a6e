package skill_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/skill/skilltest"
)

// TestUpgradeFollowsCommits: commits have no order, so the newest one is the latest,
// whatever its hash.
func TestUpgradeFollowsCommits(t *testing.T) {
	e := newEnv(t)
	const address = "https://github.com/ann/plain"
	e.github.Push(t, "ann/plain", tree("plain", "0"))
	e.install(t, address, skill.Custom)
	for i := range 10 {
		commit := e.github.Push(t, "ann/plain", tree("plain", fmt.Sprint(i+1)))
		up, err := e.upgrade(t, address, "latest")
		if err != nil || !up.Changed || up.Version != "0.0.0-git-"+commit[:12] {
			t.Errorf("upgrade %d to %s: %+v, %v", i, commit, up, err)
		}
	}
}

// TestConcurrentUpgradesNeverLowerTheVersion: the registry delays the answer to one
// upgrade, with the version that is the latest then. In the meantime another upgrade
// installs a later version.
func TestConcurrentUpgradesNeverLowerTheVersion(t *testing.T) {
	e := newEnv(t)
	publish := func(version string) {
		e.registry.Publish(skilltest.Version{Owner: "ann", Slug: "weather", Version: version, Archive: skilltest.Zip(t, tree("weather", version))})
	}
	publish("1.0.0")
	e.install(t, "@ann/weather", skill.ClawHub)
	publish("1.1.0")
	started, resume := make(chan struct{}), make(chan struct{})
	var delayed atomic.Bool
	e.registry.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/api/v1/download" && delayed.CompareAndSwap(false, true) {
			close(started)
			<-resume
		}
		return false
	})
	slow := make(chan error, 1)
	var change skill.Change
	go func() {
		var err error
		change, err = e.upgrade(t, "@ann/weather", "latest")
		slow <- err
	}()
	<-started
	publish("1.2.0")
	if up, err := e.upgrade(t, "@ann/weather", "latest"); err != nil || up.Version != "1.2.0" {
		t.Errorf("second upgrade: %+v, %v", up, err)
	}
	close(resume)
	if err := <-slow; err != nil || change.Changed || change.Version != "1.2.0" {
		t.Errorf("delayed upgrade: %+v, %v", change, err)
	}
	if list, err := e.List(t.Context(), account, agentID); err != nil || list[0].Version != "1.2.0" {
		t.Errorf("installed: %+v, %v", list, err)
	}
}

// TestUpdateUpgradesAndEnablesAtOnce: both changes are made and synced together, or
// neither.
func TestUpdateUpgradesAndEnablesAtOnce(t *testing.T) {
	agents := &fakeAgents{needsRestart: true}
	e := newEnv(t, func(s *skill.Settings) { s.Agents = agents })
	e.upload(t, "1.0.0", "one")
	e.install(t, "greeter", skill.Custom)
	if _, err := e.setEnabled(t, "greeter", false); err != nil {
		t.Fatal(err)
	}
	e.upload(t, "1.1.0", "two")
	agents.synced = nil
	enabled := true
	update := func(c skill.Changes) (skill.Change, error) {
		return e.Update(t.Context(), actor, agentID, "greeter", c)
	}
	c, err := update(skill.Changes{Version: "latest", Enabled: &enabled})
	if err != nil || !c.Changed || !c.NeedsRestart || c.Version != "1.1.0" || !c.Enabled || len(agents.synced) != 1 {
		t.Errorf("upgraded and enabled: %+v, %v, synced %v", c, err, agents.synced)
	}
	if got := e.paths(t); len(got) != 1 {
		t.Errorf("files: %v", got)
	}
	enabled = false
	_, err = update(skill.Changes{Version: "9.9.9", Enabled: &enabled})
	wantFault(t, err, fault.NotFound)
	c, err = update(skill.Changes{Version: "latest", Enabled: &enabled})
	if err != nil || !c.Changed || c.Version != "1.1.0" || c.Enabled || len(agents.synced) != 2 {
		t.Errorf("disabled, without an upgrade: %+v, %v, synced %v", c, err, agents.synced)
	}
	_, err = update(skill.Changes{})
	if f := details(t, err, fault.Invalid); f["body"] == "" {
		t.Errorf("an empty change: %v", f)
	}
	_, err = e.Update(t.Context(), actor, "no-agent", "greeter", skill.Changes{Enabled: &enabled})
	wantFault(t, err, fault.NotFound)
	_, err = e.Update(t.Context(), actor, agentID, "none", skill.Changes{Version: "latest"})
	wantFault(t, err, fault.NotFound)
}
