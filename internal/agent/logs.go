package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/openclaw"
)

// maxLogLine is where a line of a log is cut.
const maxLogLine = 64 << 10

// Logs returns the last tail lines of an agent's log, running or not: a time, a
// level in brackets, a message. Secrets of the agent are masked. Faults: NotFound.
func (s *Service) Logs(ctx context.Context, who access.Principal, id string, tail int) (string, error) {
	a, err := find(ctx, s.DB, string(who.AccountID), id)
	if err != nil {
		return "", err
	}
	return s.body.logs(ctx, a, tail)
}

// FollowLogs hands the last tail lines to emit, and then each line as it appears,
// over restarts of the gateway, until ctx ends, emit fails or the agent is deleted.
// A reader that is too slow loses lines and is told how many. Faults: NotFound.
func (s *Service) FollowLogs(ctx context.Context, who access.Principal, id string, tail int, emit func(line string) error) error {
	a, err := find(ctx, s.DB, string(who.AccountID), id)
	if err != nil {
		return err
	}
	mask, err := s.body.masker(ctx, a)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := s.Driver.Logs(ctx, a.Place, a.ID, tail, true)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	return follow(ctx, r, newQueue(tail), func(line string) error {
		shown, err := mask.replace(ctx, line)
		if err != nil {
			return err
		}
		return emit(shown)
	}, emit)
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
	err = lines(r, func(line string) {
		out.WriteString(mask.Replace(openclaw.LogLine(line)) + "\n")
	})
	return out.String(), err
}

// lines calls f with each line; one that is too long is cut, not refused.
func lines(r io.Reader, f func(string)) error {
	in := bufio.NewReaderSize(r, maxLogLine)
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
