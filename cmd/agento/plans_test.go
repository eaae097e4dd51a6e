package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
)

// TestDegradedNamesAccountsWithoutAPlan: by their ids, because everybody may read /readyz.
func TestDegradedNamesAccountsWithoutAPlan(t *testing.T) {
	db := databasetest.New(t)
	accounts := func() *access.Service { return access.New(access.Settings{DB: db, Events: event.NewLog(db)}) }
	a, err := accounts().CreateAccount(t.Context(), identity.ByOperator(""), "Secret Customer", "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := accounts().PublicPlanProblem(t.Context()); got != "" || err != nil {
		t.Error(got, err)
	}
	err = db.Tx(t.Context(), "test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE accounts SET plan_id = 'plan_gone'`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := accounts().PublicPlanProblem(t.Context())
	if err != nil || !strings.Contains(got, "plan_gone") || !strings.Contains(got, string(a.ID)) || strings.Contains(got, a.Name) {
		t.Error(got, err)
	}
}

func TestExpiry(t *testing.T) {
	for text, want := range map[string]time.Time{
		"never": {}, "2099-01-31": time.Date(2099, 1, 31, 0, 0, 0, 0, time.UTC), "2099-01-31T12:00:00+02:00": time.Date(2099, 1, 31, 10, 0, 0, 0, time.UTC),
	} {
		var e expiry
		if err := e.UnmarshalText([]byte(text)); err != nil || !e.Equal(want) {
			t.Errorf("%s: %v %v", text, e, err)
		}
	}
	for text, want := range map[string]time.Duration{"90d": 90 * 24 * time.Hour, "12h": 12 * time.Hour} {
		var e expiry
		if err := e.UnmarshalText([]byte(text)); err != nil || time.Until(e.Time) > want || time.Until(e.Time) < want-time.Minute {
			t.Errorf("%s: %v %v", text, e, err)
		}
	}
	for _, text := range []string{"", "d", "0d", "-1d", "1.5d", "999999999d", "0s", "-1h", "tomorrow", "2099-02-30", "0001-01-01", "Never", "4102444800"} {
		var e expiry
		if err := e.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken as %v", text, e)
		}
	}
}
