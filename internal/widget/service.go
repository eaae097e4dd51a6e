package widget

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// The secrets of a widget in the vault.
const (
	signingSecret         provider.SecretName = "widget_signing_secret"
	previousSigningSecret provider.SecretName = "widget_previous_signing_secret"
)

// Agents finds agents. Faults: NotFound.
type Agents interface {
	Find(ctx context.Context, q database.Reader, account identity.AccountID, id identity.AgentID) (agent.Agent, error)
}

// Settings of a Service. All are required, but Log.
type Settings struct {
	DB       *database.DB
	Events   *event.Log
	Vault    *vault.Vault
	Agents   Agents
	Accounts *access.Service
	Turns    Turns
	Log      *slog.Logger // nil: nothing is logged
}

// Service keeps widgets and knows their visitors. It is safe for concurrent use.
type Service struct {
	db       *database.DB
	events   *event.Log
	vault    *vault.Vault
	agents   Agents
	accounts *access.Service
	turns    Turns
	log      *slog.Logger

	limiter *access.Limiter
	streams openStreams
	open    openTurns
}

// New returns a Service. Its Run ends streams and counts tokens.
func New(s Settings) *Service {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{db: s.DB, events: s.Events, vault: s.Vault, agents: s.Agents, accounts: s.Accounts, turns: s.Turns, log: s.Log, limiter: access.NewLimiter(), open: newOpenTurns()}
}

// NewWidget describes a widget to be made.
type NewWidget struct {
	Name     string
	AgentID  identity.AgentID
	Origins  []string
	Theme    Theme
	Greeting string
	Limits   Limits
}

// Create makes a widget and returns its signing secret, which is not shown again. If the actor's
// request has made a widget before, whose secret nobody has got, that one gets the secret.
// Faults: Invalid; NotFound, for the agent; Conflict, if the account has MaxWidgets.
func (s *Service) Create(ctx context.Context, actor identity.Actor, in NewWidget) (Widget, vault.Secret, error) {
	secret := newSecret()
	w := Widget{
		ID: identity.WidgetID(newToken(idPrefix, 12)), AccountID: actor.AccountID, AgentID: in.AgentID, Name: in.Name, Key: newToken(KeyPrefix, keyBytes),
		Origins: in.Origins, Theme: in.Theme, Greeting: in.Greeting, Limits: in.Limits, Enabled: true, CreatedBy: actor.String(), CreatedAt: now(),
	}
	if fault.IsBlank(string(in.AgentID)) {
		return Widget{}, vault.Secret{}, fault.Fields{"agentId": "must be the id of an agent"}.Err()
	}
	w, err := w.normalize()
	if err != nil {
		return Widget{}, vault.Secret{}, err
	}
	err = s.db.Tx(ctx, "widget.create", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockWidgets, string(actor.AccountID)); err != nil {
			return err
		}
		if created, ok, err := s.events.Repeated(ctx, tx, actor); err != nil {
			return err
		} else if ok {
			w.ID = identity.WidgetID(created.Topic.ID())
			return s.putSecrets(ctx, tx, w, map[provider.SecretName]vault.Secret{signingSecret: secret})
		}
		if _, err := s.agents.Find(ctx, tx, actor.AccountID, in.AgentID); err != nil {
			return err
		}
		switch n, err := count(ctx, tx, actor.AccountID); {
		case err != nil:
			return err
		case n >= MaxWidgets:
			return fault.New(fault.Conflict, "This account has %d chat widgets, which is the most that it may have. Delete one first.", n)
		}
		if err := insert(ctx, tx, w); err != nil {
			return err
		}
		if err := s.putSecrets(ctx, tx, w, map[provider.SecretName]vault.Secret{signingSecret: secret}); err != nil {
			return err
		}
		return s.appendEvent(ctx, tx, actor, w.ID, "widget.created", map[string]any{"name": w.Name, "agent": w.AgentID, "origins": w.Origins})
	})
	return s.withSecret(ctx, w, secret, err, "create widget")
}

// withSecret returns a widget as it is stored, with a secret that it has got.
func (s *Service) withSecret(ctx context.Context, w Widget, secret vault.Secret, err error, what string) (Widget, vault.Secret, error) {
	if err == nil {
		w, err = find(ctx, s.db, w.AccountID, w.ID)
	}
	if err != nil {
		return Widget{}, vault.Secret{}, fmt.Errorf("%s: %w", what, err)
	}
	return w, secret, nil
}

// Get returns a widget. Faults: NotFound.
func (s *Service) Get(ctx context.Context, account identity.AccountID, id identity.WidgetID) (Widget, error) {
	return find(ctx, s.db, account, id)
}

// List returns a page of an account's widgets, newest first, and how many there are.
func (s *Service) List(ctx context.Context, account identity.AccountID, limit, offset int) ([]Widget, int, error) {
	all, err := list(ctx, s.db, account, limit, offset)
	if err != nil {
		return nil, 0, fmt.Errorf("list widgets: %w", err)
	}
	total, err := count(ctx, s.db, account)
	return all, total, err
}

// Update changes a widget. Its open streams end within seconds if it is disabled.
// Faults: Invalid; NotFound.
func (s *Service) Update(ctx context.Context, actor identity.Actor, id identity.WidgetID, c Changes) (Widget, error) {
	return s.change(ctx, actor, "widget.update", id, func(_ context.Context, _ *database.Tx, w Widget) (Widget, string, map[string]any, error) {
		w, changed := w.apply(c)
		if len(changed) == 0 {
			return w, "", nil, nil
		}
		w, err := w.normalize()
		data := map[string]any{"name": w.Name, "fields": changed}
		if c.Enabled != nil {
			data["enabled"] = w.Enabled
		}
		return w, "widget.updated", data, err
	})
}

// RotateKey gives a widget another key. The one that it had is valid for grace, and one before that
// no more. Faults: Invalid; NotFound.
func (s *Service) RotateKey(ctx context.Context, actor identity.Actor, id identity.WidgetID, grace time.Duration) (Widget, error) {
	if err := checkGrace(grace); err != nil {
		return Widget{}, err
	}
	return s.change(ctx, actor, "widget.rotate_key", id, func(ctx context.Context, tx *database.Tx, w Widget) (Widget, string, map[string]any, error) {
		if _, ok, err := s.events.Repeated(ctx, tx, actor); ok || err != nil {
			return w, "", nil, err
		}
		if w.previousKey, w.PreviousKeyUntil = "", (time.Time{}); grace > 0 {
			w.previousKey, w.PreviousKeyUntil = w.Key, now().Add(grace)
		}
		w.Key, w.keyNumber = newToken(KeyPrefix, keyBytes), w.keyNumber+1
		return w, "widget.key_rotated", map[string]any{"name": w.Name, "graceSeconds": int64(grace / time.Second)}, nil
	})
}

// RotateSecret gives a widget another signing secret, which it returns. Tokens that were signed
// with the one that it had are valid for grace, and those of one before that no more. If the actor's
// request has done so before, that secret, which nobody has got, is replaced.
// Faults: Invalid; NotFound.
func (s *Service) RotateSecret(ctx context.Context, actor identity.Actor, id identity.WidgetID, grace time.Duration) (Widget, vault.Secret, error) {
	if err := checkGrace(grace); err != nil {
		return Widget{}, vault.Secret{}, err
	}
	secret := newSecret()
	w, err := s.change(ctx, actor, "widget.rotate_secret", id, func(ctx context.Context, tx *database.Tx, w Widget) (Widget, string, map[string]any, error) {
		put := map[provider.SecretName]vault.Secret{signingSecret: secret}
		if _, ok, err := s.events.Repeated(ctx, tx, actor); err != nil {
			return w, "", nil, err
		} else if ok {
			return w, "", nil, s.putSecrets(ctx, tx, w, put)
		}
		w.PreviousSecretUntil = time.Time{}
		owned, err := s.vault.ReadMany(ctx, tx, w.AccountID, ownerOf(w.ID))
		if err != nil {
			return w, "", nil, err
		}
		if former, ok := owned[ownerOf(w.ID)].Secrets[signingSecret]; ok && grace > 0 {
			put[previousSigningSecret], w.PreviousSecretUntil = former, now().Add(grace)
		} else if err := s.vault.Delete(ctx, tx, w.AccountID, ownerOf(w.ID), previousSigningSecret); err != nil {
			return w, "", nil, err
		}
		w.secretNumber++
		return w, "widget.secret_rotated", map[string]any{"name": w.Name, "graceSeconds": int64(grace / time.Second)}, s.putSecrets(ctx, tx, w, put)
	})
	if err != nil {
		return Widget{}, vault.Secret{}, err
	}
	return w, secret, nil
}

func checkGrace(grace time.Duration) error {
	if grace < 0 || grace > MaxGrace {
		return fault.Fields{"graceSeconds": fmt.Sprintf("must be from 0 to %d, which is 30 days", MaxGrace/time.Second)}.Err()
	}
	return nil
}

// Delete deletes a widget. Its open streams end within seconds. The conversations stay.
// Faults: NotFound.
func (s *Service) Delete(ctx context.Context, actor identity.Actor, id identity.WidgetID) error {
	return s.db.Tx(ctx, "widget.delete", func(ctx context.Context, tx *database.Tx) error {
		w, err := find(ctx, tx, actor.AccountID, id)
		if err != nil {
			return err
		}
		if err := s.remove(ctx, tx, actor.AccountID, id); err != nil {
			return fmt.Errorf("delete widget: %w", err)
		}
		return s.appendEvent(ctx, tx, actor, id, "widget.deleted", map[string]any{"name": w.Name, "agent": w.AgentID})
	})
}

// change stores what f makes of a widget, and appends the event that it names; without one nothing
// is stored.
func (s *Service) change(ctx context.Context, actor identity.Actor, kind string, id identity.WidgetID, f func(context.Context, *database.Tx, Widget) (w Widget, event string, data map[string]any, err error)) (Widget, error) {
	var w Widget
	err := s.db.Tx(ctx, kind, func(ctx context.Context, tx *database.Tx) (err error) {
		if err := tx.Lock(ctx, database.LockWidgets, string(actor.AccountID)); err != nil {
			return err
		}
		if w, err = find(ctx, tx, actor.AccountID, id); err != nil {
			return err
		}
		if w.broken {
			return fault.New(fault.Conflict, "The record of this widget is damaged: delete it and create another one.")
		}
		w, happened, data, err := f(ctx, tx, w)
		if err != nil || happened == "" {
			return err
		}
		w.UpdatedAt = now()
		if err := update(ctx, tx, w); err != nil {
			return fmt.Errorf("store widget: %w", err)
		}
		return s.appendEvent(ctx, tx, actor, id, happened, data)
	})
	if err != nil {
		return Widget{}, err
	}
	return find(ctx, s.db, actor.AccountID, id)
}

func (s *Service) putSecrets(ctx context.Context, tx *database.Tx, w Widget, secrets map[provider.SecretName]vault.Secret) error {
	if err := s.vault.Put(ctx, tx, w.AccountID, ownerOf(w.ID), secrets); err != nil {
		return fmt.Errorf("store the signing secret: %w", err)
	}
	return nil
}

// topicPrefix begins the topics of widgets.
const topicPrefix = "widget/"

func (s *Service) appendEvent(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.WidgetID, kind string, data map[string]any) error {
	return s.events.Append(ctx, tx, actor, event.Event{Topic: event.Topic(topicPrefix + id), Kind: kind, Data: data})
}

// newToken returns a prefix with so many random bytes.
func newToken(prefix string, bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return prefix + hex.EncodeToString(b)
}

func newSecret() vault.Secret { return vault.NewSecret(newToken(SecretPrefix, secretBytes)) }
