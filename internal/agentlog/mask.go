package agentlog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/vault"
)

// minMasked is the length of the shortest value that is masked. A secret like "1"
// would otherwise make a log unreadable.
const minMasked = 6

// masker returns what replaces the secrets that a now has.
func (s *Service) masker(ctx context.Context, a agent.Agent) (*strings.Replacer, error) {
	values, err := s.maskedValues(ctx, a)
	return newReplacer(values), err
}

// maskedValues returns the values to mask, in every form in which a line of a log can
// have them.
func (s *Service) maskedValues(ctx context.Context, a agent.Agent) ([]string, error) {
	secrets, err := s.gateways.SecretValues(ctx, a)
	if err != nil {
		return nil, err
	}
	var values []string
	for _, secret := range secrets {
		for line := range strings.Lines(secret.Reveal()) { // a log shows one line at a time
			line = strings.TrimRight(line, "\r\n")
			values = append(values, line, openclaw.LogLine(line))
		}
	}
	return values, nil
}

func newReplacer(values []string) *strings.Replacer {
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) }) // one may contain another
	var pairs []string
	for _, v := range values {
		if len(v) >= minMasked {
			pairs = append(pairs, v, "[secret]")
		}
	}
	return strings.NewReplacer(pairs...)
}

// followMasker masks the lines of a log that is followed. It masks what is a secret
// now and what was one since the reader came.
type followMasker struct {
	service        *Service
	id             identity.AgentID
	secretsVersion int64 // of gateway.Manager, when values were read
	values         map[string]bool
	replacer       *strings.Replacer
}

func (s *Service) followMasker(ctx context.Context, a agent.Agent) (*followMasker, error) {
	m := &followMasker{service: s, id: a.ID, secretsVersion: s.gateways.SecretsVersion(), values: map[string]bool{}}
	return m, m.addSecrets(ctx, a)
}

// addSecrets adds the secrets that a now has.
func (m *followMasker) addSecrets(ctx context.Context, a agent.Agent) error {
	values, err := m.service.maskedValues(ctx, a)
	if err != nil {
		return err
	}
	for _, v := range values {
		m.values[v] = true
	}
	m.replacer = newReplacer(slices.Collect(maps.Keys(m.values)))
	return nil
}

// replace masks a line. It first reads the secrets again, if a gateway has got other
// ones: they must be known before they can appear in the log.
func (m *followMasker) replace(ctx context.Context, line string) (string, error) {
	if version := m.service.gateways.SecretsVersion(); version != m.secretsVersion {
		a, err := m.service.store.FindByID(ctx, m.service.db, m.id)
		if err == nil {
			err = m.addSecrets(ctx, a)
		}
		deleted := errors.Is(err, sql.ErrNoRows) || errors.Is(err, vault.ErrNoKey) // there are no new secrets
		if err != nil && !deleted {
			return "", fmt.Errorf("mask a log: %w", err)
		}
		m.secretsVersion = version
	}
	return m.replacer.Replace(openclaw.LogLine(line)), nil
}
