package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/openclaw"
)

// maxLogLine is where a line of a log is cut.
const maxLogLine = 64 << 10

// Logs returns the last tail lines of an agent's log, running or not: a time, a
// level in brackets, a message. Secrets of the agent are masked. Faults: NotFound.
func (s *Service) Logs(ctx context.Context, who access.Principal, id string, tail int) (string, error) {
	a, err := find(ctx, s.DB, who.AccountID, id)
	if err != nil {
		return "", err
	}
	return s.body.logs(ctx, a, tail)
}

// FollowLogs hands the last tail lines to emit, and then each line as it appears,
// over restarts of the gateway, until ctx ends or emit fails. A reader that is too
// slow loses lines and is told how many. Faults: NotFound.
func (s *Service) FollowLogs(ctx context.Context, who access.Principal, id string, tail int, emit func(line string) error) error {
	a, err := find(ctx, s.DB, who.AccountID, id)
	if err != nil {
		return err
	}
	mask, err := s.body.mask(ctx, a)
	if err != nil {
		return err
	}
	r, err := s.Driver.Logs(ctx, a.Place, a.ID, tail, true)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = r.Close() }()
	defer context.AfterFunc(ctx, func() { _ = r.Close() })()
	return follow(ctx, r, mask, emit)
}

func (b *body) logs(ctx context.Context, a Agent, tail int) (string, error) {
	mask, err := b.mask(ctx, a)
	if err != nil {
		return "", err
	}
	r, err := b.Driver.Logs(ctx, a.Place, a.ID, tail, false)
	if err != nil {
		return "", fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = r.Close() }()
	var out strings.Builder
	err = lines(r, func(line string) error {
		out.WriteString(mask.Replace(openclaw.LogLine(line)) + "\n")
		return nil
	})
	return out.String(), err
}

// mask replaces whatever an agent must not show of what it was given.
func (b *body) mask(ctx context.Context, a Agent) (*strings.Replacer, error) {
	secrets, err := b.secrets(ctx, b.DB, a)
	if err != nil {
		return nil, err
	}
	var values []string
	for _, s := range secrets {
		values = append(values, s.Reveal())
	}
	for _, purpose := range []string{gatewayToken, modelToken, toolsToken} {
		token, err := b.Vault.Token(ctx, b.DB, a.AccountID, a.ID, purpose)
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		values = append(values, token.Reveal())
	}
	return masking(values), nil
}

// shortestMasked keeps a secret like "1" from eating the log.
const shortestMasked = 6

func masking(values []string) *strings.Replacer {
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) }) // one may contain another
	var pairs []string
	for _, v := range values {
		if len(v) >= shortestMasked {
			pairs = append(pairs, v, "[secret]")
		}
	}
	return strings.NewReplacer(pairs...)
}

// lines calls f with each line; one that is too long is cut, not refused.
func lines(r io.Reader, f func(string) error) error {
	in := bufio.NewReaderSize(r, maxLogLine)
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			text := strings.ToValidUTF8(strings.TrimRight(string(line), "\r\n"), "�")
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = in.ReadSlice('\n')
			}
			if e := f(text); e != nil {
				return e
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
	}
}
