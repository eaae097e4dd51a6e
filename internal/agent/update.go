package agent

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
)

// Update changes an agent's name, avatar, config, swarm or secrets. What a running
// gateway can use without a restart is synced to it; the rest shows in NeedsRestart.
// Secrets are bound to the origin that the agent calls after the change.
// Faults: NotFound; Invalid, naming every invalid field; Conflict, if the record is
// damaged, or if another agent has a channel token.
func (s *Service) Update(ctx context.Context, actor identity.Actor, id identity.AgentID, in client.UpdateAgentRequest) (View, error) {
	var before, after Agent
	var v View
	err := s.db.Tx(ctx, "agent.update", func(ctx context.Context, tx *database.Tx) (err error) {
		if err := tx.Lock(ctx, database.LockAgent, string(id)); err != nil {
			return err
		}
		if before, err = s.store.Find(ctx, tx, actor.AccountID, id); err != nil {
			return err
		}
		if err := before.CheckReadable(); err != nil {
			return err
		}
		var secrets secretValues
		if after, secrets, err = s.apply(ctx, tx, before, in); err != nil {
			return err
		}
		if err := s.saveUpdate(ctx, tx, actor, before, after); err != nil {
			return err
		}
		if len(secrets) > 0 {
			if err := s.changeSecrets(ctx, tx, actor, after, secretChange{set: secrets, deleted: []provider.SecretName{}}); err != nil {
				return err
			}
		}
		s.events.NotifyAfterCommit(tx, event.ReconcileTopic(id))
		if err := s.appendEvent(ctx, tx, actor, id, "agent.updated", updatedFields(in)); err != nil {
			return err
		}
		v, err = s.view(ctx, tx, after)
		return err
	})
	// A sync that has begun with the former SelfEdit ends before this one.
	if err == nil && after.IsRunning() && (v.NeedsRestart || after.Name != before.Name || after.Config.SelfEdit() != before.Config.SelfEdit()) {
		v.NeedsRestart = s.syncChange(ctx, after)
	}
	return v, err
}

func (s *Service) saveUpdate(ctx context.Context, tx *database.Tx, actor identity.Actor, before, after Agent) error {
	if err := s.store.update(ctx, tx, after); err != nil {
		return err
	}
	if after.Name == before.Name {
		return nil
	}
	return s.workspace.Rename(ctx, tx, actor, after.ID, after.Name)
}

// apply returns the agent with the changes made, and the secrets to set.
// Faults: Invalid.
func (s *Service) apply(ctx context.Context, q database.Reader, a Agent, in client.UpdateAgentRequest) (Agent, secretValues, error) {
	problems := fault.Fields{}
	secrets := parseSecrets(problems, in.Secrets)
	if in.Name.Set {
		a.Name = in.Name.Value
		validateName(problems, a.Name)
	}
	if in.AvatarURL.Set {
		if a.AvatarURL = in.AvatarURL.Value; !in.AvatarURL.Null {
			validateAvatar(problems, a.AvatarURL)
		}
	}
	if in.Config != nil {
		checkConfigKeys(problems, in.Config)
		a.Config = a.Config.merge(in.Config)
		a.Config.validate(problems, s.urls)
		Config(in.Config).validateLimits(problems, s.turnLimits)
	}
	if in.SwarmID.Set {
		if a.SwarmID = identity.SwarmID(in.SwarmID.Value); !in.SwarmID.Null {
			if _, err := s.checkSwarm(ctx, q, problems, a); err != nil {
				return a, nil, err
			}
		}
	}
	checkKeys(problems, a.Config, in.Secrets)
	if in.Config == nil && !in.SwarmID.Set {
		return a, secrets, problems.Err()
	}
	a.Revision++
	names, err := s.secretNames(ctx, q, a)
	if err != nil {
		return a, nil, err
	}
	for name := range secrets {
		names[name] = true
	}
	checkProvider(problems, a.Config, names)
	return a, secrets, problems.Err()
}

func updatedFields(in client.UpdateAgentRequest) map[string]any {
	fields := map[string]any{}
	if in.Name.Set {
		fields["name"] = in.Name.Value
	}
	if in.AvatarURL.Set {
		fields["avatarUrl"] = in.AvatarURL.Value
	}
	if in.SwarmID.Set {
		fields["swarmId"] = in.SwarmID.Value
	}
	if in.Config != nil {
		keys := make([]string, 0, len(in.Config))
		for k := range in.Config {
			keys = append(keys, k)
		}
		fields["config"] = keys
	}
	return fields
}
