package event_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
)

func TestAppendNotifiesAfterTheCommit(t *testing.T) {
	db := databasetest.New(t)
	log := event.NewLog(db)
	notified, stop := log.Subscribe("agent/1")
	defer stop()
	write := func(fail error) error {
		return db.Tx(t.Context(), "event.test", func(ctx context.Context, tx *database.Tx) error {
			e := event.Event{Topic: "agent/1", Kind: "agent.created", Data: map[string]any{"name": "x"}}
			return errors.Join(log.Append(t.Context(), tx, identity.ByKey("a", "key_1"), e), fail)
		})
	}
	if write(errors.New("undo")) == nil {
		t.Fatal("no error")
	}
	select {
	case <-notified:
		t.Fatal("notified of an event that was rolled back")
	default:
	}
	if err := write(nil); err != nil {
		t.Fatal(err)
	}
	<-notified
	got, err := log.List(t.Context(), "a", event.Filter{Limit: 10})
	if err != nil || len(got) != 1 || got[0].Data["name"] != "x" || got[0].Actor != identity.ByKey("a", "key_1") {
		t.Fatalf("%+v %v", got, err)
	}
}

// The API always returns an object.
func TestEventWithoutDataHasAnEmptyObject(t *testing.T) {
	db := databasetest.New(t)
	log := event.NewLog(db)
	err := db.Tx(t.Context(), "event.test", func(ctx context.Context, tx *database.Tx) error {
		return log.Append(t.Context(), tx, identity.BySystem("a"), event.Event{Topic: "agent/1", Kind: "agent.removed"})
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := log.List(t.Context(), "a", event.Filter{Limit: 10})
	if err != nil || len(got) != 1 || got[0].Data == nil || len(got[0].Data) != 0 {
		t.Fatalf("%+v %v", got, err)
	}
}

func TestListReturnsPagesOfOneAccountNewestFirst(t *testing.T) {
	db := databasetest.New(t)
	log := event.NewLog(db)
	for i, account := range []identity.AccountID{"a", "b", "a", "a"} {
		err := db.Tx(t.Context(), "event.test", func(ctx context.Context, tx *database.Tx) error {
			return log.Append(t.Context(), tx, identity.BySystem(account), event.Event{Topic: "t", Kind: "k", Data: map[string]any{"i": i}})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	first, err := log.List(t.Context(), "a", event.Filter{Topic: "t", Kind: "k", Limit: 2})
	if err != nil || len(first) != 2 || first[0].Data["i"] != 3.0 || first[1].Data["i"] != 2.0 {
		t.Fatalf("%+v %v", first, err)
	}
	// The numbers show nothing of the other account.
	if first[0].Number != 3 || first[1].Number != 2 {
		t.Errorf("numbers %d and %d, want 3 and 2", first[0].Number, first[1].Number)
	}
	rest, err := log.List(t.Context(), "a", event.Filter{Before: first[1].Number, Limit: 2})
	if err != nil || len(rest) != 1 || rest[0].Data["i"] != 0.0 {
		t.Fatalf("%+v %v", rest, err)
	}
}

func TestSubscriberHasOnePendingNotificationUntilItUnsubscribes(t *testing.T) {
	log := event.NewLog(databasetest.New(t))
	c, stop := log.Subscribe("t")
	log.Notify("t")
	log.Notify("t")
	<-c
	stop()
	log.Notify("t")
	select {
	case <-c:
		t.Fatal("notified after it unsubscribed, or twice")
	default:
	}
}

func TestPrefixSubscriptionCollectsEachTopicOnce(t *testing.T) {
	log := event.NewLog(databasetest.New(t))
	s := log.SubscribePrefix(event.ReconcilePrefix)
	defer s.Close()
	for _, topic := range []event.Topic{event.ReconcileTopic("2"), event.ReconcileTopic("1"), event.ReconcileTopic("2"), event.AgentTopic("3")} {
		log.Notify(topic)
	}
	<-s.Ready()
	got := s.Take()
	slices.Sort(got)
	if !slices.Equal(got, []event.Topic{"reconcile/1", "reconcile/2"}) || got[0].ID() != "1" {
		t.Fatalf("%q", got)
	}
	if more := s.Take(); len(more) > 0 {
		t.Fatalf("%q were returned twice", more)
	}
}
