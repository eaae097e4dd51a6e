package botapi

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

const (
	// maxKept and maxKeptBytes bound what is kept of one bot. Source: a gateway asks for 100 updates
	// at most, and one with the longest message has 20 kB.
	maxKept      = 100
	maxKeptBytes = 1 << 20
)

// update is an update that a gateway gets.
type update struct {
	id    int64
	wakes bool // it begins a turn
	text  json.RawMessage
}

// keeper keeps the updates of bots whose agents sleep, until their gateways confirm them. A gateway
// confirms what is before the offset of its next call, as with Telegram: nothing is lost in a crash,
// and a gateway gets an update again only if it asks for it again.
type keeper struct {
	db    *database.DB
	vault *vault.Vault
	log   *slog.Logger
}

// kept is what is kept of a bot.
type kept struct {
	count  int
	bytes  int64 // sealed
	waking int64 // the number of the last update that wakes the agent; -1: there is none
}

// isFull reports whether further updates stay with Telegram.
func (k kept) isFull() bool { return k.count >= maxKept || k.bytes >= maxKeptBytes }

// look returns what is kept of a bot.
func (k *keeper) look(ctx context.Context, q database.Reader, bot Bot) (kept, error) {
	found, err := database.One(ctx, q, func(r database.Row) (v kept, err error) {
		err = r.Scan(&v.count, &v.bytes, &v.waking)
		return v, err
	}, `SELECT count(*), coalesce(sum(octet_length(content)), 0), coalesce(max(CASE WHEN wakes THEN update_id END), -1)
		FROM telegram_updates WHERE agent_id = $1 AND bot = $2`, bot.Agent, bot.number())
	if err != nil {
		return kept{}, fmt.Errorf("look at the updates that are kept: %w", err)
	}
	return found, nil
}

// keep keeps updates of a bot, in their order, as far as there is room. last is the number of the
// last one that is kept now; -1: none.
func (k *keeper) keep(ctx context.Context, bot Bot, updates []update, now time.Time) (last int64, err error) {
	err = k.db.Tx(ctx, "botapi.keep", func(ctx context.Context, tx *database.Tx) error {
		last = -1
		found, err := k.look(ctx, tx, bot)
		if err != nil {
			return err
		}
		key, err := k.vault.TextKey(ctx, tx, bot.Account, vault.OfAgent(bot.Agent))
		if err != nil {
			return err
		}
		for _, u := range updates {
			content, err := key.Seal(string(u.text), bot.place(u.id)...)
			if err != nil {
				return err
			}
			found.count, found.bytes = found.count+1, found.bytes+int64(len(u.text))
			if found.count > maxKept || found.bytes > maxKeptBytes {
				return nil
			}
			_, err = tx.ExecContext(ctx,
				`INSERT INTO telegram_updates (account_id, agent_id, bot, update_id, wakes, content, kept_at)
				 SELECT $1, $2, $3, CAST($4 AS BIGINT), $5, $6, CAST($7 AS BIGINT) WHERE EXISTS (SELECT 1 FROM agents WHERE id = $2 AND account_id = $1)
				 ON CONFLICT (agent_id, bot, update_id) DO NOTHING`,
				bot.Account, bot.Agent, bot.number(), u.id, u.wakes, content, database.Millis(now))
			if err != nil {
				return err
			}
			last = u.id
		}
		return nil
	})
	if err != nil {
		return -1, fmt.Errorf("keep updates: %w", err)
	}
	return last, nil
}

// row is a kept update as it is stored.
type row struct {
	bot     string
	id      int64
	content vault.Text
}

// take returns the updates that are kept for a gateway, the first limit of them. It removes those
// before offset, which the gateway confirms with it, those of a former bot, and what does not open,
// because the agent's data key is lost.
func (k *keeper) take(ctx context.Context, bot Bot, offset int64, limit int) (texts []json.RawMessage, err error) {
	rows, err := database.All(ctx, k.db, func(r database.Row) (v row, err error) {
		err = r.Scan(&v.bot, &v.id, &v.content)
		return v, err
	}, `SELECT bot, update_id, content FROM telegram_updates WHERE agent_id = $1 ORDER BY update_id`, bot.Agent)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	key, err := k.vault.TextKey(ctx, k.db, bot.Account, vault.OfAgent(bot.Agent))
	if err != nil {
		return nil, err
	}
	var done []row
	for _, r := range rows {
		if r.bot != bot.number() || r.id < offset {
			done = append(done, r)
			continue
		}
		text, err := key.Open(r.content, bot.place(r.id)...)
		if err != nil {
			k.log.WarnContext(ctx, "a message of Telegram that was kept for an agent is lost: it does not open", "agent", bot.Agent, "update", r.id, "error", err)
			done = append(done, r)
			continue
		}
		if len(texts) < limit {
			texts = append(texts, json.RawMessage(text))
		}
	}
	return texts, k.remove(ctx, bot.Agent, done)
}

// remove removes updates of an agent.
func (k *keeper) remove(ctx context.Context, id identity.AgentID, rows []row) error {
	if len(rows) == 0 {
		return nil
	}
	return k.db.Tx(ctx, "botapi.remove", func(ctx context.Context, tx *database.Tx) error {
		for _, r := range rows {
			if _, err := tx.ExecContext(ctx, `DELETE FROM telegram_updates WHERE agent_id = $1 AND bot = $2 AND update_id = $3`, id, r.bot, r.id); err != nil {
				return fmt.Errorf("remove an update that was kept: %w", err)
			}
		}
		return nil
	})
}

// removeAll removes everything that is kept of an agent.
func (k *keeper) removeAll(ctx context.Context, id identity.AgentID) error {
	return k.db.Tx(ctx, "botapi.remove_all", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM telegram_updates WHERE agent_id = $1`, id)
		return err
	})
}

// place is what an update is sealed for.
func (b Bot) place(id int64) []string {
	return []string{"telegram update", b.number(), strconv.FormatInt(id, 10)}
}
