package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/runtime/process"
)

const (
	// scratchLinger is how long the agent of doctor --wake stays awake.
	scratchLinger = minLinger
	// scratchTimeout bounds a cold start, and the wakes of one way: a boot on a busy machine takes
	// more than a minute.
	scratchTimeout = 10 * time.Minute
	// statusInterval is how often the status of the agent is read. Source: the requests that a key has in
	// a minute.
	statusInterval = 2 * time.Second
	// scratchWakes is how often each way to wake is measured.
	scratchWakes = 3
)

// wake says how agents can sleep on this machine and measures how long their next message takes, with
// an installation of its own. That a way is not possible is no failure.
func (c doctorCommand) wake(ctx context.Context, t *terminal) error {
	var found []finding
	for _, check := range (process.Flags{}).CheckWake() {
		found = append(found, finding{Part: check.Name, State: check.State, OK: check.OK, Fix: check.Fix})
	}
	measured, err := c.measure(ctx, t, found)
	if e := c.show(t, append(found, measured...)); e != nil {
		return e
	}
	return err
}

// measure boots a gateway in a directory of its own, with the scripted model, and returns how long a
// message takes until the first words of its answer, by each way that is possible.
func (c doctorCommand) measure(ctx context.Context, t *terminal, found []finding) (measured []finding, err error) {
	if c := c.openclaw(); !c.OK {
		return nil, fmt.Errorf("nothing was measured: the agent runtime %s. %s", c.State, c.Fix)
	}
	if err := (process.Flags{}).CheckIsolation(); err != nil {
		return nil, fmt.Errorf("nothing was measured: %w", err)
	}
	dir, err := os.MkdirTemp("", "agento-doctor-*")
	if err != nil {
		return nil, err
	}
	s := &scratch{data: filepath.Join(dir, "data"), runtimeDir: c.RuntimeDir, log: t.err}
	defer func() {
		if e := s.remove(context.WithoutCancel(ctx)); e != nil {
			err = errors.Join(err, fmt.Errorf("removing %s: %w", dir, e))
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if _, err := fmt.Fprintln(t.err, "A gateway boots twice and then sleeps and wakes some times, in "+dir+": about two minutes."); err != nil {
		return nil, err
	}
	cold, err := s.coldStart(ctx)
	if err != nil {
		return nil, errors.New("measuring a cold start failed: " + err.Error()) // the advice of the client's errors is for another server
	}
	measured = append(measured, finding{Part: "cold start", State: fmt.Sprintf("%.1f s from a restart to the first words: so a stopped gateway wakes", cold.Seconds()), OK: true})
	for _, way := range []struct{ check, sleep, status, name string }{
		{process.CheckpointCheck, sleepAuto, "asleep", "wake"},
		{process.FreezeCheck, sleepFreeze, "frozen", "thaw"},
	} {
		if !isPossible(found, way.check) {
			continue
		}
		times, err := s.wakes(ctx, way.sleep, way.status)
		if err != nil {
			measured = append(measured, finding{Part: way.name, State: "failed: " + err.Error(), Fix: "see the log of the server above"})
			continue
		}
		measured = append(measured, finding{Part: way.name, State: wakeText(times, cold), OK: true})
	}
	return measured, ctx.Err()
}

// isPossible reports whether a way to sleep was found possible.
func isPossible(found []finding, name string) bool {
	return slices.ContainsFunc(found, func(f finding) bool {
		return f.Part == name && f.OK && f.Fix == "" && !strings.HasPrefix(f.State, "not possible")
	})
}

// wakeText returns the times of a way to wake in words.
func wakeText(times []time.Duration, cold time.Duration) string {
	slices.Sort(times)
	median := times[len(times)/2]
	return fmt.Sprintf("%.2f s from a message to the first words (%.2f to %.2f s in %d tries), 1/%.0f of a cold start",
		median.Seconds(), times[0].Seconds(), times[len(times)-1].Seconds(), len(times), cold.Seconds()/median.Seconds())
}

// scratch is an installation that doctor --wake makes and removes, with one agent.
type scratch struct {
	data, runtimeDir string
	log              io.Writer // of the server
	server           *exec.Cmd // nil: none runs
	api              *client.Client
	agent            string
}

// start starts a server in which agents sleep in a way. The one that runs is stopped.
func (s *scratch) start(ctx context.Context, sleep string) error {
	if err := s.stop(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "dev", "--data", s.data, "--listen", "127.0.0.1:0", "--sleep", sleep, "--linger", scratchLinger.String(), "--log-level", "warn")
	if s.runtimeDir != "" {
		cmd.Args = append(cmd.Args, "--runtime-dir", s.runtimeDir)
	}
	cmd.Args[0] = os.Args[0]                                                                                  // the name can decide what the program is
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AGENTO_") }) // the operator's settings are for another data directory
	cmd.Stderr = s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for this command, which cleans up
	output, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.server = cmd
	url, key, err := readWelcome(output)
	if err != nil {
		return errors.Join(err, s.stop())
	}
	go func() { _, _ = io.Copy(io.Discard, output) }() // ends with the server
	s.api = &client.Client{URL: url, APIKey: key}
	return ctx.Err()
}

// readWelcome reads the address and the key of a server from what it prints when it serves.
func readWelcome(output io.Reader) (url, key string, err error) {
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if n, _ := fmt.Sscanf(strings.TrimSpace(lines.Text()), "export AGENTO_URL=%s AGENTO_API_KEY=%s", &url, &key); n == 2 {
			return url, key, nil
		}
	}
	return "", "", errors.Join(errors.New("the server has not started"), lines.Err())
}

// stop stops the server; the gateway runs on.
func (s *scratch) stop() error {
	if s.server == nil {
		return nil
	}
	err := s.server.Process.Signal(syscall.SIGTERM)
	_ = s.server.Wait() // its exit code does not matter
	s.server = nil
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// coldStart creates the agent and returns how long a restart takes until the first words of an answer.
func (s *scratch) coldStart(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, scratchTimeout)
	defer cancel()
	if err := s.start(ctx, sleepAuto); err != nil {
		return 0, err
	}
	created, err := s.api.CreateAgent(ctx, client.CreateAgentRequest{Name: "doctor", Secrets: map[string]string{"anthropicApiKey": demoKey}})
	if err != nil {
		return 0, err
	}
	s.agent = created.ID
	if _, err := s.firstWords(ctx); err != nil { // what is done once in a life
		return 0, err
	}
	began := time.Now()
	if _, err := s.api.RestartAgent(ctx, s.agent); err != nil {
		return 0, err
	}
	if _, err := s.firstWords(ctx); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

// wakes returns how long messages take that wake the agent.
func (s *scratch) wakes(ctx context.Context, sleep, status string) (times []time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, scratchTimeout)
	defer cancel()
	if err := s.start(ctx, sleep); err != nil {
		return nil, err
	}
	for range scratchWakes {
		if _, err := s.firstWords(ctx); err != nil { // the next ones are faster
			return nil, err
		}
		if err := s.awaitSleep(ctx, status); err != nil {
			return nil, err
		}
		took, err := s.firstWords(ctx)
		if err != nil {
			return nil, err
		}
		times = append(times, took)
	}
	return times, nil
}

// awaitSleep waits until the agent sleeps, in a way.
func (s *scratch) awaitSleep(ctx context.Context, status string) error {
	ctx, cancel := context.WithTimeout(ctx, scratchTimeout/5)
	defer cancel()
	for {
		live, err := s.api.AgentStatus(ctx, s.agent)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("the agent stays awake: %w", ctx.Err())
		case err != nil:
			return err
		case live.ContainerStatus == status:
			return nil
		case live.ContainerStatus == "asleep" || live.ContainerStatus == "frozen":
			return fmt.Errorf("the agent is %s in place of %s", live.ContainerStatus, status)
		case live.KeptAwake != "":
			return errors.New("the agent stays awake: " + live.KeptAwake)
		}
		select {
		case <-ctx.Done():
		case <-time.After(statusInterval):
		}
	}
}

// firstWords sends a message and returns how long the first words of the answer took.
func (s *scratch) firstWords(ctx context.Context) (took time.Duration, err error) {
	began := time.Now()
	for e, err := range s.api.Chat(ctx, s.agent, client.ChatRequest{Message: "echo awake"}) {
		if err == nil && e.Type == "error" {
			err = errors.New(e.Message)
		}
		if err != nil {
			return 0, err
		}
		if took == 0 && e.Content != "" {
			took = time.Since(began)
		}
	}
	if took == 0 {
		return 0, errors.New("the answer has no text")
	}
	return took, nil
}

// remove removes the agent and stops the server. If that fails, the gateway is stopped without it.
func (s *scratch) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, scratchTimeout/5)
	defer cancel()
	if s.server != nil && s.agent != "" {
		_, _ = s.api.DeleteAgent(ctx, s.agent) // otherwise its gateway is stopped below
	}
	err := s.stop()
	agents := filepath.Join(s.data, agentsDir)
	if _, e := os.Stat(agents); e != nil {
		return err // the server has not started
	}
	found, e := process.Gateways(agents)
	if len(found) > 0 {
		stop := gatewaysStop{dataFlags: dataFlags{Data: s.data}, All: true}
		e = errors.Join(e, stop.Run(ctx, &terminal{out: io.Discard, err: io.Discard}))
	}
	return errors.Join(err, e)
}
