package engines_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/pool/sshtest"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/multi"
	"agento.host/agento/internal/runtime/runtimetest"
)

const gib = int64(1) << 30

// TestPlacement: creations at the same time overfill no server, whatever is the matter with others.
func TestPlacement(t *testing.T) {
	t.Parallel()
	socket := sharedSocket(t)
	s := newSSHD(t)
	e := newEnv(t)
	place := func(id identity.AgentID, region, home string) (string, error) {
		return e.Place(t.Context(), id, region, home, gib)
	}
	if name, err := place("first", "eu", ""); name != multi.Local || err != nil {
		t.Errorf("without servers: %q, %v", name, err)
	}
	second := t.TempDir() + "/e.sock"
	must(t, os.Symlink(socket, second))
	alpha, beta := s.newServer("alpha", socket, ""), s.newServer("beta", second, "")
	alpha.Agents, beta.Memory = 30, 10*gib+gib/2
	e.connect(alpha)
	e.connect(beta)
	key, _, _ := sshtest.NewKey(t)
	for name, address := range map[string]string{"gamma": "127.0.0.1:1", "delta": "127.0.0.1:2"} { // where nothing listens
		n := s.newServer(name, socket, address)
		n.HostKeys = append(n.HostKeys, key.PublicKey())
		e.add(n)
	}

	var wait sync.WaitGroup
	var mu sync.Mutex
	placed := map[string][]identity.AgentID{}
	for i := range 200 {
		wait.Go(func() {
			id := identity.AgentID(fmt.Sprint("agent", i))
			name, err := place(id, "eu", "")
			none := (*pool.NoRoomError)(nil)
			if err != nil && (!errors.As(err, &none) || none.Region != "eu" || !errors.Is(err, runtime.ErrNoCapacity) || !strings.Contains(err.Error(), "region eu")) {
				t.Errorf("%v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			placed[name] = append(placed[name], id)
		})
	}
	wait.Wait()
	if len(placed["alpha"]) != 30 || len(placed["beta"]) != 10 || len(placed[""]) != 160 {
		t.Errorf("alpha %d, beta %d, without room %d", len(placed["alpha"]), len(placed["beta"]), len(placed[""]))
	}
	if name, err := place("us", "us", ""); name != multi.Local || err != nil {
		t.Errorf("a region without servers: %q, %v", name, err)
	}
	if name, err := place("first", "eu", multi.Local); name != multi.Local || err != nil {
		t.Errorf("an agent that is on this machine: %q, %v", name, err)
	}

	// A cordoned server keeps its agents, also when they are started again, and gets no more.
	_, err := e.service.Cordon(t.Context(), operator, "alpha", true)
	must(t, err)
	kept, waiting := placed["alpha"][0], placed[""][0]
	e.Release(kept)
	if name, err := place(waiting, "eu", ""); err == nil {
		t.Errorf("placed on %q", name)
	}
	if name, err := place(kept, "eu", "alpha"); name != "alpha" || err != nil {
		t.Errorf("an agent of a cordoned server: %q, %v", name, err)
	}
	_, err = e.service.Cordon(t.Context(), operator, "alpha", false)
	must(t, err)
	// An agent that has a home has it on one server, whatever room others have.
	if name, err := place(waiting, "eu", "alpha"); err == nil || !strings.Contains(err.Error(), "alpha has 30 of 30 agents") {
		t.Errorf("on a full server: %q, %v", name, err)
	}
	e.Release(placed["beta"][0])
	if name, err := place(waiting, "eu", ""); name != "beta" || err != nil {
		t.Errorf("where there is room again: %q, %v", name, err)
	}
	if name, err := place("x", "eu", "gamma"); err == nil || !strings.Contains(err.Error(), "gamma cannot be reached") {
		t.Errorf("on a server that is not connected: %q, %v", name, err)
	}
	none := (*pool.NoRoomError)(nil)
	if _, err := place("x", "eu", "removed"); !errors.As(err, &none) || none.Home != "removed" {
		t.Errorf("on a server that was removed: %v", err)
	}
}

// TestServerWithoutTheImage: an agent is not placed where it could not be started.
func TestServerWithoutTheImage(t *testing.T) {
	t.Parallel()
	socket := sharedSocket(t)
	e := newEnv(t)
	e.settings.Docker.Image = "agento/missing:1"
	e.Servers = e.open()
	s := newSSHD(t)
	e.add(s.newServer("alpha", socket, ""))
	var err error
	runtimetest.WaitUntil(t, "its engine was asked", func() bool {
		_, err = e.Place(t.Context(), "a", "eu", "", gib)
		return err == nil || !strings.Contains(err.Error(), "cannot be reached")
	})
	if err == nil || !strings.Contains(err.Error(), "alpha cannot run agents: the container engine does not have the image agento/missing:1") {
		t.Errorf("%v", err)
	}
}
