package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay/wire"
	"agento.host/agento/internal/vault"
)

// Launch says which gateway is launched. Args, the values of Env and Files have the placeholders
// of runtime.Spec.
type Launch struct {
	Command []string // of the image
	Args    []string // follow Command
	Env     map[string]vault.Secret
	Files   map[string][]byte
	Secrets []byte         // nil: {}
	Limits  runtime.Limits // of the files; the engine holds the others
}

var validName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Start deletes the home's trash, writes Files and Secrets, and launches the gateway. It does
// nothing if this relay has launched one already. If it fails, it can be repeated. Errors:
// *runtime.DiskError, if the agent's files exceed the limits.
func (s *Session) Start(ctx context.Context, l Launch) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := s.start(ctx, l); err != nil {
		return fmt.Errorf("launch the gateway: %w", err)
	}
	return nil
}

func (s *Session) start(ctx context.Context, l Launch) error {
	r, err := s.request(l)
	if err != nil {
		return err
	}
	st, err := s.open(ctx, r)
	if err != nil {
		return err
	}
	defer st.close()
	a, err := s.answer(ctx, st)
	if err != nil || a.Done {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(l.Files)) {
		if err := s.sendPart(ctx, st, wire.Part{Path: []byte(name)}, s.replace(string(l.Files[name]))); err != nil {
			return err
		}
	}
	secrets := string(l.Secrets)
	if l.Secrets == nil {
		secrets = "{}"
	}
	if err := s.sendPart(ctx, st, wire.Part{Last: true}, secrets); err != nil {
		return err
	}
	_, err = s.answer(ctx, st)
	return err
}

// request checks a launch and returns the request for it.
func (s *Session) request(l Launch) (wire.Request, error) {
	if len(l.Command) == 0 {
		return wire.Request{}, errors.New("no command")
	}
	out := &wire.Launch{Command: slices.Clone(l.Command), Env: map[string]string{}, DiskBytes: l.Limits.DiskBytes, Files: l.Limits.Files}
	for _, arg := range l.Args {
		out.Command = append(out.Command, s.replace(arg))
	}
	for name, value := range l.Env {
		if !validName.MatchString(name) {
			return wire.Request{}, fmt.Errorf("not a name for an environment variable: %q", name)
		}
		if strings.ContainsRune(value.Reveal(), 0) {
			return wire.Request{}, fmt.Errorf("environment variable %s holds a zero byte", name)
		}
		out.Env[name] = s.replace(value.Reveal())
	}
	return wire.Request{Op: wire.Start, Launch: out}, nil
}

func (s *Session) sendPart(ctx context.Context, st stream, p wire.Part, data string) error {
	p.Size = int64(len(data))
	err := wire.WriteMessage(st, p)
	if err == nil {
		_, err = st.Write([]byte(data))
	}
	if err == nil {
		return nil
	}
	// The relay may have answered why it takes no more.
	_ = st.SetReadDeadline(time.Now().Add(time.Second))
	if _, e := s.answer(ctx, st); e != nil {
		return e
	}
	return s.failure(ctx, err)
}

// replace replaces the placeholders of runtime.Spec by what holds in this container.
func (s *Session) replace(text string) string {
	return strings.NewReplacer(runtime.HomePath, s.paths.Home, runtime.SecretsPath, s.paths.Secrets,
		runtime.Port, strconv.Itoa(s.paths.Port), runtime.ServerAddr, s.paths.Server).Replace(text)
}

// PutSecrets replaces the secrets file atomically. Errors: runtime.ErrNotRunning.
func (s *Session) PutSecrets(ctx context.Context, secrets []byte) error {
	if _, _, err := s.call(ctx, wire.Request{Op: wire.PutSecrets}, secrets, 0); err != nil {
		return fmt.Errorf("replace the secrets: %w", err)
	}
	return nil
}

// Stop has the relay end: it asks the gateway to end, waits for the grace period, and ends with
// everything in the container. Stop returns when the relay has ended, or the session has. The
// engine knows when the container has.
func (s *Session) Stop(ctx context.Context, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, grace+stopSlack)
	defer cancel()
	_, _, err := s.call(ctx, wire.Request{Op: wire.Stop, Grace: grace}, nil, 0)
	if s.mux.IsClosed() {
		<-s.done
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop the gateway: %w", err)
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop the gateway: the relay does not end: %w", ctx.Err())
	}
}
