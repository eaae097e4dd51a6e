// Package agentlog reads and follows the logs of agents' gateways. Secrets of the
// agent are masked in every line that leaves it.
package agentlog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/runtime"
)

const (
	// maxLine is the length in bytes at which a line is cut.
	maxLine = 64 << 10
	// maxPage is how much of a log Tail returns, in bytes.
	maxPage = 4 << 20
)

// Settings are what a Service needs.
type Settings struct {
	DB       *database.DB
	Store    *agent.Store
	Gateways *gateway.Manager
	Driver   runtime.Driver
}

// Service reads the logs of agents.
type Service struct {
	db       *database.DB
	store    *agent.Store
	gateways *gateway.Manager
	driver   runtime.Driver
}

// New returns the service.
func New(s Settings) *Service {
	return &Service{db: s.DB, store: s.Store, gateways: s.Gateways, driver: s.Driver}
}

// Tail returns the last lines of an agent's log, whether it runs or not: a time, a
// level in brackets, a message. Of lines that are more than 4 MiB together it returns the
// last, after a line that says how many are left out. Faults: NotFound.
func (s *Service) Tail(ctx context.Context, account identity.AccountID, id identity.AgentID, lines int) (string, error) {
	a, err := s.store.Find(ctx, s.db, account, id)
	if err != nil {
		return "", err
	}
	return s.TailOf(ctx, a, lines)
}

// TailOf is Tail for an agent that the caller has found.
func (s *Service) TailOf(ctx context.Context, a agent.Agent, lines int) (string, error) {
	mask, err := s.masker(ctx, a)
	if err != nil {
		return "", err
	}
	r, err := s.driver.Logs(ctx, a.Place, a.ID, lines, false)
	if err != nil {
		return "", fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = r.Close() }()
	page := queue{maxLines: lines, maxBytes: maxPage}
	err = readLines(r, func(line string) { page.add(mask.Replace(openclaw.LogLine(line)) + "\n") })
	if page.dropped > 0 {
		return fmt.Sprintf("… %d earlier lines are left out: a page has at most 4 MiB\n", page.dropped) + strings.Join(page.lines, ""), err
	}
	return strings.Join(page.lines, ""), err
}

// Follow calls emit with the last tail lines, and then with each line as it appears,
// also after a restart of the gateway, until ctx ends, emit fails or the agent is
// deleted. A reader that is too slow loses lines; a line in their place says how many.
// Faults: NotFound.
func (s *Service) Follow(ctx context.Context, account identity.AccountID, id identity.AgentID, tail int, emit func(line string) error) error {
	a, err := s.store.Find(ctx, s.db, account, id)
	if err != nil {
		return err
	}
	mask, err := s.followMasker(ctx, a)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := s.driver.Logs(ctx, a.Place, a.ID, tail, true)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	return follow(ctx, r, newQueue(tail), func(line string) error {
		masked, err := mask.replace(ctx, line)
		if err != nil {
			return err
		}
		return emit(masked)
	}, emit)
}

// Mask returns text with the agent's secrets masked.
func (s *Service) Mask(ctx context.Context, a agent.Agent, text string) (string, error) {
	mask, err := s.masker(ctx, a)
	if err != nil {
		return "", err
	}
	return mask.Replace(text), nil
}

// readLines calls f with each line of r. A line that is too long is cut.
func readLines(r io.Reader, f func(string)) error {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			text := strings.ToValidUTF8(strings.TrimRight(string(line), "\r\n"), "�")
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = in.ReadSlice('\n')
			}
			f(text)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
	}
}
