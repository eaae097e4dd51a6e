package gateway

import (
	"context"
	"errors"
	"sync"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// NeedsRestart reports whether a's running gateway differs from what its record and
// its secrets now ask for. It is false for an agent that does not run, or
// whose record is damaged.
func (m *Manager) NeedsRestart(ctx context.Context, q database.Reader, a agent.Agent) (bool, error) {
	return m.AnyNeedsRestart(ctx, q, a.AccountID, []agent.Agent{a})
}

// AnyNeedsRestart is NeedsRestart for many agents of one account. Its number of
// queries does not grow with the number of agents.
func (m *Manager) AnyNeedsRestart(ctx context.Context, q database.Reader, account identity.AccountID, agents []agent.Agent) (bool, error) {
	var running []agent.Agent
	for i := range agents {
		if a := agents[i]; a.Damage == "" && a.SpecDigest != "" && a.DesiredState == agent.DesiredRunning && a.Place != "" {
			running = append(running, a)
		}
	}
	if len(running) == 0 {
		return false, nil
	}
	desired, err := m.desiredDigests(ctx, q, account, running)
	if err != nil {
		return false, err
	}
	for i := range running {
		want, has := desired[running[i].ID], running[i].SpecDigest
		// An agent that sleeps gets its secrets when it wakes.
		if want != has && (want == "" || !running[i].IsAsleep() || parseSpecDigest(want).gateway != parseSpecDigest(has).gateway) {
			return true, nil
		}
	}
	return false, nil
}

// desiredDigests returns the digests of the specs that agents of one account should
// have. The digest of an agent that can have no gateway until its owner changes
// something is empty.
func (m *Manager) desiredDigests(ctx context.Context, q database.Reader, account identity.AccountID, agents []agent.Agent) (map[identity.AgentID]string, error) {
	if _, uncommitted := q.(*database.Tx); uncommitted { // after a rollback the same revisions can come with other secrets
		return m.renderDigests(ctx, q, account, agents)
	}
	revisions, err := m.vault.Revisions(ctx, q, account, ownersOf(agents)...)
	if err != nil {
		return nil, err
	}
	desired := make(map[identity.AgentID]string, len(agents))
	var unknown []agent.Agent
	for i := range agents {
		digest, ok := m.digests.get(agents[i].ID, revisionOf(agents[i], revisions))
		if desired[agents[i].ID] = digest; !ok {
			unknown = append(unknown, agents[i])
		}
	}
	if len(unknown) == 0 {
		return desired, nil
	}
	rendered, err := m.renderDigests(ctx, q, account, unknown)
	if err != nil {
		return nil, err
	}
	for i := range unknown {
		id := unknown[i].ID
		desired[id] = rendered[id]
		m.digests.put(id, revisionOf(unknown[i], revisions), rendered[id])
	}
	return desired, nil
}

// renderDigests is desiredDigests without the cache: it decrypts the secrets and
// renders the specs.
func (m *Manager) renderDigests(ctx context.Context, q database.Reader, account identity.AccountID, agents []agent.Agent) (map[identity.AgentID]string, error) {
	all, err := m.readManyCredentials(ctx, q, account, agents)
	if err != nil {
		return nil, err
	}
	rendered := make(map[identity.AgentID]string, len(agents))
	for i := range agents {
		_, digest, err := m.makeSpec(agents[i], all[agents[i].ID])
		switch invalid := (*SpecError)(nil); {
		case errors.As(err, &invalid):
			rendered[agents[i].ID] = ""
		case err != nil:
			return nil, err
		default:
			rendered[agents[i].ID] = digest.String()
		}
	}
	return rendered, nil
}

// specRevision identifies everything that an agent's spec is made of, except for the
// settings of the server, which do not change while it runs.
type specRevision struct {
	agent  int64
	own    int64 // of the agent's secrets
	shared int64 // of its swarm's secrets
}

func revisionOf(a agent.Agent, secrets map[vault.OwnerID]int64) specRevision {
	r := specRevision{agent: a.Revision, own: secrets[vault.OfAgent(a.ID)]}
	if a.SwarmID != "" {
		r.shared = secrets[vault.OfSwarm(a.SwarmID)]
	}
	return r
}

// maxDigests bounds how many digests are kept. One needs about 200 bytes.
const maxDigests = 20_000

// digestCache keeps the digest of the spec that each agent should have, because making
// a spec takes as long as a hundred look-ups. A digest belongs to the revision that was
// read before the spec was made: if the secrets changed between the two, the next
// reader sees a newer revision and does not use it.
type digestCache struct {
	mu      sync.Mutex
	entries map[identity.AgentID]digestEntry // guarded by mu
}

type digestEntry struct {
	revision specRevision
	digest   string
}

func (c *digestCache) get(id identity.AgentID, r specRevision) (digest string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[id]
	if !ok || e.revision != r {
		return "", false
	}
	return e.digest, true
}

func (c *digestCache) put(id identity.AgentID, r specRevision, digest string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[id]; !ok && len(c.entries) >= maxDigests {
		for other := range c.entries { // any one: its next reader makes it again
			delete(c.entries, other)
			break
		}
	}
	c.entries[id] = digestEntry{r, digest}
}

func (c *digestCache) remove(id identity.AgentID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, id)
}
