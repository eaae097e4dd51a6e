package agent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/vault"
)

// generation counts how often gateways were given secrets, so that whoever masks a
// log that goes on learns of new ones before they can appear there.
type generation struct{ n atomic.Int64 }

func (g *generation) next()      { g.n.Add(1) }
func (g *generation) now() int64 { return g.n.Load() }

// masker masks the lines of an agent's log as it goes on. What was a secret when it
// began stays one.
type masker struct {
	body   *body
	id     string
	at     int64
	values map[string]bool
	mask   *strings.Replacer
}

func (b *body) masker(ctx context.Context, a Agent) (*masker, error) {
	m := &masker{body: b, id: a.ID, at: b.given.now(), values: map[string]bool{}}
	return m, m.learn(ctx, a)
}

func (m *masker) learn(ctx context.Context, a Agent) error {
	values, err := m.body.masked(ctx, a)
	if err != nil {
		return err
	}
	for _, v := range values {
		m.values[v] = true
	}
	all := make([]string, 0, len(m.values))
	for v := range m.values {
		all = append(all, v)
	}
	m.mask = masking(all)
	return nil
}

// replace masks a line.
func (m *masker) replace(ctx context.Context, line string) (string, error) {
	if now := m.body.given.now(); now != m.at {
		a, err := findAny(ctx, m.body.DB, m.id)
		if err == nil {
			err = m.learn(ctx, a)
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) && !errors.Is(err, vault.ErrNoKey) { // deleted: it learns nothing more
			return "", fmt.Errorf("mask a log: %w", err)
		}
		m.at = now
	}
	return m.mask.Replace(openclaw.LogLine(line)), nil
}

// mask replaces whatever an agent must not show of what it was given.
func (b *body) mask(ctx context.Context, a Agent) (*strings.Replacer, error) {
	values, err := b.masked(ctx, a)
	return masking(values), err
}

// masked lists what must not be shown, in every form that a line of a log has it.
func (b *body) masked(ctx context.Context, a Agent) ([]string, error) {
	secrets, err := b.secrets(ctx, b.DB, a)
	if err != nil {
		return nil, err
	}
	var values []string
	for _, s := range secrets {
		for line := range strings.Lines(s.Reveal()) { // a log shows one line at a time
			line = strings.TrimRight(line, "\r\n")
			values = append(values, line, openclaw.LogLine(line))
		}
	}
	for _, purpose := range []string{gatewayToken, modelToken, toolsToken} {
		token, err := b.Vault.Token(ctx, b.DB, a.account(), a.owner(), purpose)
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		values = append(values, token.Reveal())
	}
	return values, nil
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
