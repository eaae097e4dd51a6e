package attention

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// dismissible adds the action that dismisses an item.
func (i Item) dismissible() Item {
	i.Actions = append(i.Actions, post(dismiss, "/v1/attention/"+url.PathEscape(i.ID)+"/dismiss"))
	return i
}

// Dismiss makes an item not be listed any more, for everybody in the account. Only what is no
// failure can be dismissed. Dismissing it again changes nothing.
// Faults: NotFound; Conflict, if it can only be repaired.
func (s *Service) Dismiss(ctx context.Context, actor identity.Actor, id string) error {
	if known, err := s.dismissed(ctx, s.DB, actor.AccountID); err != nil || slices.Contains(known, id) {
		return err
	}
	all, err := s.List(ctx, actor.AccountID)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(item Item) bool { return item.ID == id })
	if i < 0 {
		return fault.New(fault.NotFound, "Nothing with the id %.80q waits. List what does with GET /v1/attention.", id)
	}
	item := all[i]
	if !slices.ContainsFunc(item.Actions, func(a Action) bool { return a.Name == dismiss }) {
		return fault.New(fault.Conflict, "This cannot be dismissed: it is listed until it is repaired.")
	}
	return s.DB.Tx(ctx, "attention.dismiss", func(ctx context.Context, tx *database.Tx) error {
		n, err := database.Exec(ctx, tx, `INSERT INTO attention_dismissed (account_id, item_id, actor, at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			actor.AccountID, id, actor.String(), database.Millis(time.Now()))
		if err != nil {
			return fmt.Errorf("dismiss %s: %w", id, err)
		}
		if n == 0 {
			return nil
		}
		topic := event.Topic("attention/" + id)
		if item.AgentID != "" {
			topic = event.AgentTopic(item.AgentID)
		}
		return s.Events.Append(ctx, tx, actor, event.Event{Topic: topic, Kind: "attention.dismissed", Data: map[string]any{"id": id, "sentence": item.Sentence}})
	})
}

func (s *Service) dismissed(ctx context.Context, q database.Reader, account identity.AccountID) ([]string, error) {
	ids, err := database.All(ctx, q, database.Scalar[string], `SELECT item_id FROM attention_dismissed WHERE account_id = $1`, account)
	if err != nil {
		return nil, fmt.Errorf("read what was dismissed: %w", err)
	}
	return ids, nil
}

func (s *Service) withoutDismissed(ctx context.Context, account identity.AccountID, all []Item) ([]Item, error) {
	ids, err := s.dismissed(ctx, s.DB, account)
	if err != nil || len(ids) == 0 {
		return all, err
	}
	known := make(map[string]bool, len(ids))
	for _, id := range ids {
		known[id] = true
	}
	return slices.DeleteFunc(all, func(i Item) bool { return known[i.ID] }), nil
}
