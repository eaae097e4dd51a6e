package event_test

import (
	"context"
	"errors"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
)

func TestAppendRingsAfterTheCommitOnly(t *testing.T) {
	log := &event.Log{DB: databasetest.New(t), Bell: event.NewBell()}
	news, stop := log.Bell.Listen("agent/1")
	defer stop()
	write := func(fail error) error {
		return log.DB.Tx(t.Context(), func(tx *database.Tx) error {
			e := event.Event{AccountID: "a", Topic: "agent/1", Kind: "agent.created", Actor: "key_1", Data: map[string]any{"name": "x"}}
			return errors.Join(log.Append(t.Context(), tx, e), fail)
		})
	}
	if write(errors.New("undo")) == nil {
		t.Fatal("no error")
	}
	select {
	case <-news:
		t.Fatal("rang for an event that was undone")
	default:
	}
	if err := write(nil); err != nil {
		t.Fatal(err)
	}
	<-news
	got, err := log.List(t.Context(), "a", event.Filter{Limit: 10})
	if err != nil || len(got) != 1 || got[0].Data["name"] != "x" || got[0].Actor != "key_1" {
		t.Fatalf("%+v %v", got, err)
	}
}

// TestAnEventWithoutDataHasAnEmptyObject: its readers are promised one.
func TestAnEventWithoutDataHasAnEmptyObject(t *testing.T) {
	log := &event.Log{DB: databasetest.New(t), Bell: event.NewBell()}
	err := log.DB.Tx(t.Context(), func(tx *database.Tx) error {
		return log.Append(t.Context(), tx, event.Event{AccountID: "a", Topic: "agent/1", Kind: "agent.removed", Actor: "system"})
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := log.List(t.Context(), "a", event.Filter{Limit: 10})
	if err != nil || len(got) != 1 || got[0].Data == nil || len(got[0].Data) != 0 {
		t.Fatalf("%+v %v", got, err)
	}
}

func TestListIsNewestFirstOfOneAccountAndPages(t *testing.T) {
	log := &event.Log{DB: databasetest.New(t), Bell: event.NewBell()}
	for i, account := range []string{"a", "b", "a", "a"} {
		err := log.DB.Tx(t.Context(), func(tx *database.Tx) error {
			return log.Append(context.Background(), tx, event.Event{AccountID: account, Topic: "t", Kind: "k", Data: map[string]any{"i": i}})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	first, err := log.List(t.Context(), "a", event.Filter{Topic: "t", Kind: "k", Limit: 2})
	if err != nil || len(first) != 2 || first[0].Data["i"] != 3.0 || first[1].Data["i"] != 2.0 {
		t.Fatalf("%+v %v", first, err)
	}
	rest, err := log.List(t.Context(), "a", event.Filter{Before: first[1].Seq, Limit: 2})
	if err != nil || len(rest) != 1 || rest[0].Data["i"] != 0.0 {
		t.Fatalf("%+v %v", rest, err)
	}
}

func TestBellForgetsWhoLeaves(t *testing.T) {
	bell := event.NewBell()
	c, stop := bell.Listen("t")
	bell.Ring("t")
	bell.Ring("t")
	<-c
	stop()
	bell.Ring("t")
	select {
	case <-c:
		t.Fatal("rang for one who left, or twice for one look")
	default:
	}
}
