package workspace_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/workspace"
)

func absorbAs(t testing.TB, s *env, mode workspace.SelfEdit, h workspace.Folder) workspace.Absorbed {
	t.Helper()
	return must[workspace.Absorbed](t)(s.store.Absorb(t.Context(), account, agent, mode, h))
}

// editEverything edits a document of each kind and creates a rule.
func editEverything(h home) {
	for _, d := range []string{"SOUL.md", "IDENTITY.md", "WORKFLOW.md", "rules/refunds.md", "rules/own.md"} {
		h[d] = "injected into " + d
	}
}

func TestWithheldEditsAreUndone(t *testing.T) {
	for _, mode := range []workspace.SelfEdit{workspace.SelfEditOff, workspace.SelfEditReview} {
		s, h := newDelivered(t)
		before := maps.Clone(h)
		for range 2 { // the same edits again
			editEverything(h)
			a := absorbAs(t, s, mode, h)
			if len(a.Accepted)+len(a.SetAside) > 0 {
				t.Fatalf("%s: %+v", mode, a)
			}
			if got := pending(t, s); got != "[IDENTITY.md SOUL.md WORKFLOW.md rules/own.md rules/refunds.md]" {
				t.Errorf("%s: pending %s", mode, got)
			}
			if again := absorbAs(t, s, mode, h); len(again.Refused)+len(again.Proposed) > 0 {
				t.Errorf("%s: absorbed twice: %+v", mode, again)
			}
			h.deliver(t, s)
			if !maps.Equal(h, before) || pending(t, s) != "[]" {
				t.Errorf("%s: the home holds %v, pending %s", mode, h, pending(t, s))
			}
		}
		if absorbAs(t, s, mode, h); !maps.Equal(h, before) {
			t.Errorf("%s: %v", mode, h)
		}
	}
}

func TestEditsAreRefusedWithSelfEditOff(t *testing.T) {
	s, h := newDelivered(t)
	editEverything(h)
	if a := absorbAs(t, s, workspace.SelfEditOff, h); len(a.Refused) != 5 || a.Refused[0].Reason != "config.selfEdit is off" {
		t.Fatalf("%+v", a)
	}
	events := must[[]event.Event](t)(s.events.List(t.Context(), account, event.Filter{Kind: "agent.edits_refused", Limit: 10}))
	if len(events) != 1 || events[0].Data["count"] != 5.0 {
		t.Errorf("%+v", events)
	}
	for _, d := range []workspace.Document{workspace.Soul, workspace.Identity, workspace.Workflow, "rules/refunds.md"} {
		if p := must[workspace.Page](t)(s.Versions(t.Context(), account, agent, d, 0, 0)); len(p.Versions) != 1 {
			t.Errorf("%s has %d versions", d, len(p.Versions))
		}
	}
}

// Invalid content is overwritten, too: a SOUL.md that is too long reaches the model
// nevertheless.
func TestInvalidEditsAreUndoneUnlessSelfEditIsOn(t *testing.T) {
	for _, mode := range []workspace.SelfEdit{workspace.SelfEditOff, workspace.SelfEditReview} {
		s, h := newDelivered(t)
		before := maps.Clone(h)
		h["SOUL.md"] = strings.Repeat("x", workspace.MaxCharacters+1)
		h["WORKFLOW.md"] = "\xff"
		h["rules/own.md"] = ""
		if a := absorbAs(t, s, mode, h); len(a.Refused) != 3 || len(a.Proposed) > 0 {
			t.Fatalf("%s: %+v", mode, a)
		}
		h.deliver(t, s)
		if !maps.Equal(h, before) {
			t.Errorf("%s: %v", mode, h)
		}
	}
}

func TestProposalIsApproved(t *testing.T) {
	s, h := newDelivered(t)
	editEverything(h)
	if a := absorbAs(t, s, workspace.SelfEditReview, h); len(a.Proposed) != 5 {
		t.Fatalf("%+v", a)
	}
	h.deliver(t, s)
	waiting := must[[]workspace.Version](t)(s.PendingEdits(t.Context(), account, agent))
	if len(waiting) != 5 {
		t.Fatalf("%+v", waiting)
	}
	for _, w := range waiting {
		if w.Current || w.Review != workspace.Pending {
			t.Errorf("%+v", w)
		}
		v := changed(t)(s.Approve(t.Context(), actor, agent, w.Document, w.Number))
		if !v.Current || v.Content != "injected into "+string(w.Document) || v.RestoredFrom != w.Number || v.Actor != actor {
			t.Errorf("%+v", v)
		}
		if again := changed(t)(s.Approve(t.Context(), actor, agent, w.Document, w.Number)); again.Number != v.Number {
			t.Errorf("approved again: %+v, at first %+v", again, v)
		}
		if _, err := s.Reject(t.Context(), actor, agent, w.Document, w.Number); !fault.Is(err, fault.Conflict) {
			t.Errorf("rejected after the approval: %v", err)
		}
		listed := must[workspace.Page](t)(s.Versions(t.Context(), account, agent, w.Document, 0, 0)).Versions
		if listed[1].Review != workspace.Approved || listed[0].Review != workspace.NoReview {
			t.Errorf("%+v", listed)
		}
	}
	if left := must[[]workspace.Version](t)(s.PendingEdits(t.Context(), account, agent)); len(left) > 0 {
		t.Errorf("%+v", left)
	}
	h.deliver(t, s)
	if h["SOUL.md"] != "injected into SOUL.md" || h["rules/own.md"] != "injected into rules/own.md" {
		t.Errorf("%v", h)
	}
	if a := absorbAs(t, s, workspace.SelfEditReview, h); len(a.Proposed) > 0 {
		t.Errorf("the approved content: %+v", a)
	}
	if got := kinds(t, s); !strings.Contains(fmt.Sprint(got), "agent.edit_proposed agent") || !strings.Contains(fmt.Sprint(got), "agent.edit_approved key_1") {
		t.Error(got)
	}
}

func TestRejectedProposalIsNotMadeAgain(t *testing.T) {
	s, h := newDelivered(t)
	for range 2 {
		h["SOUL.md"] = "mine"
		absorbAs(t, s, workspace.SelfEditReview, h)
		h.deliver(t, s)
	}
	waiting := must[[]workspace.Version](t)(s.PendingEdits(t.Context(), account, agent))
	if len(waiting) != 1 {
		t.Fatalf("%+v", waiting)
	}
	number := waiting[0].Number
	for range 2 {
		if v := must[workspace.Version](t)(s.Reject(t.Context(), actor, agent, workspace.Soul, number)); v.Review != workspace.Rejected {
			t.Errorf("%+v", v)
		}
	}
	if _, _, err := s.Approve(t.Context(), actor, agent, workspace.Soul, number); !fault.Is(err, fault.Conflict) {
		t.Errorf("approved after the rejection: %v", err)
	}
	h["SOUL.md"] = "mine"
	if a := absorbAs(t, s, workspace.SelfEditReview, h); len(a.Proposed) > 0 {
		t.Errorf("%+v", a)
	}
	if v := changed(t)(s.Restore(t.Context(), actor, agent, workspace.Soul, number)); v.Content != "mine" {
		t.Errorf("%+v", v)
	}
}

// A proposal does not undo what the owner has written since.
func TestStaleProposalIsNotApproved(t *testing.T) {
	s, h := newDelivered(t)
	h["SOUL.md"] = "of the agent"
	h["rules/refunds.md"] = "pay twice"
	absorbAs(t, s, workspace.SelfEditReview, h)
	changed(t)(s.SetSoul(t.Context(), actor, agent, "of the API", ""))
	changed(t)(s.DeleteRule(t.Context(), actor, agent, "refunds"))
	for d, n := range map[workspace.Document]int64{workspace.Soul: 2, "rules/refunds.md": 2} {
		if _, _, err := s.Approve(t.Context(), actor, agent, d, n); !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: %v", d, err)
		}
	}
	if soul(t, s) != "of the API" {
		t.Error(soul(t, s))
	}
	if v := changed(t)(s.Restore(t.Context(), actor, agent, workspace.Soul, 2)); v.Content != "of the agent" {
		t.Errorf("%+v", v)
	}
	if left := must[[]workspace.Version](t)(s.PendingEdits(t.Context(), account, agent)); len(left) != 1 {
		t.Errorf("a restored proposal waits: %+v", left)
	}
	if _, err := s.Reject(t.Context(), actor, agent, workspace.Soul, 1); !fault.Is(err, fault.Conflict) {
		t.Errorf("rejected the first version: %v", err)
	}
	if _, err := s.Reject(t.Context(), actor, agent, workspace.Soul, 99); !fault.Is(err, fault.NotFound) {
		t.Errorf("rejected a version that does not exist: %v", err)
	}
}

func TestEditOfAProposalIsComparedWithTheCurrentVersion(t *testing.T) {
	s, h := newDelivered(t)
	before := h["SOUL.md"]
	for _, content := range []string{"one", "two"} { // without a delivery in between
		h["SOUL.md"] = content
		if a := absorbAs(t, s, workspace.SelfEditReview, h); len(a.Proposed) != 1 {
			t.Fatalf("%s: %+v", content, a)
		}
	}
	h["SOUL.md"] = before // the agent has thought better of it
	if a := absorbAs(t, s, workspace.SelfEditReview, h); len(a.Proposed) > 0 || pending(t, s) != "[]" {
		t.Errorf("%+v, pending %s", a, pending(t, s))
	}
	if v := changed(t)(s.Approve(t.Context(), actor, agent, workspace.Soul, 3)); v.Content != "two" {
		t.Errorf("%+v", v)
	}
}

func TestPendingEditsAreBounded(t *testing.T) {
	s, h := newDelivered(t)
	for i := range workspace.MaxPending + 5 {
		h["SOUL.md"] = fmt.Sprint("edit ", i)
		absorbAs(t, s, workspace.SelfEditReview, h)
	}
	if waiting := must[[]workspace.Version](t)(s.PendingEdits(t.Context(), account, agent)); len(waiting) != workspace.MaxPending {
		t.Errorf("%d edits wait", len(waiting))
	}
}

func TestReviewsAreDeletedWithTheirVersions(t *testing.T) {
	s, h := newDelivered(t)
	h["SOUL.md"] = "mine"
	absorbAs(t, s, workspace.SelfEditReview, h)
	inTx(t, s, func(tx *database.Tx) error {
		_, err := database.Exec(t.Context(), tx, `DELETE FROM documents WHERE account_id = $1 AND agent_id = $2 AND set_aside`, account, agent)
		return err
	})
	if n := must[int](t)(database.One(t.Context(), s.db, database.Scalar[int], `SELECT COUNT(*) FROM document_reviews`)); n != 0 {
		t.Errorf("%d reviews of versions that are gone", n)
	}
}
