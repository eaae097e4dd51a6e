package agent

import (
	"context"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
)

// Egress returns the policy of config.egress, without the hosts of channels. The default
// is Model for an agent whose callers are untrusted, otherwise Open. A value that an
// earlier version stored and that is no policy allows nothing.
func (c Config) Egress() egress.Policy {
	v, ok := c[keyEgress]
	switch p, err := egress.ParsePolicy(v); {
	case ok && err != nil:
		return egress.Policy{Mode: egress.None}
	case ok:
		return p
	case c.SharedMode():
		return egress.Policy{Mode: egress.Model}
	}
	return egress.Policy{Mode: egress.Open}
}

func (c Config) validateEgress(problems fault.Fields) {
	if v, ok := c[keyEgress]; ok {
		if _, err := egress.ParsePolicy(v); err != nil {
			problems.Add("config."+keyEgress, "%s", err)
		}
	}
}

// EgressPolicy returns where an agent of any account may connect to, and its account. The
// config of a damaged agent is not known: it may connect nowhere. Errors: sql.ErrNoRows.
func (s *Service) EgressPolicy(ctx context.Context, id identity.AgentID) (identity.AccountID, egress.Policy, error) {
	a, err := s.store.FindByID(ctx, s.db, id)
	if err != nil {
		return "", egress.Policy{}, err
	}
	p, err := s.egressPolicy(ctx, s.db, a)
	return a.AccountID, p, err
}

// egressPolicy returns the policy of an agent, with the hosts of its channels for Model.
func (s *Service) egressPolicy(ctx context.Context, q database.Reader, a Agent) (egress.Policy, error) {
	if a.Damage != "" {
		return egress.Policy{Mode: egress.None}, nil
	}
	p := a.Config.Egress()
	if p.Mode != egress.Model {
		return p, nil
	}
	names, err := s.secretNames(ctx, q, a)
	if err != nil {
		return p, err
	}
	for _, text := range openclaw.ChannelHosts(a.Config.UsesSlack(names.has)) {
		if h, err := egress.ParseHost(text); err == nil {
			p.Hosts = append(p.Hosts, h)
		}
	}
	return p, nil
}

// Egress returns where an agent may connect to. Faults: NotFound.
func (s *Service) Egress(ctx context.Context, account identity.AccountID, id identity.AgentID) (egress.Policy, error) {
	a, err := s.store.Find(ctx, s.db, account, id)
	if err != nil {
		return egress.Policy{}, err
	}
	return s.egressPolicy(ctx, s.db, a)
}

// MissingHosts returns those of the hosts that the agent may not connect to and that
// config.egress would have to name. Faults: NotFound.
func (s *Service) MissingHosts(ctx context.Context, account identity.AccountID, id identity.AgentID, hosts []string) ([]string, error) {
	p, err := s.Egress(ctx, account, id)
	return p.Missing(hosts), err
}
