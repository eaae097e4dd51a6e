package workspace_test

import (
	"fmt"
	"strings"
	"testing"

	"agento.host/agento/internal/workspace"
)

// BenchmarkAbsorb reads a home of a hundred untouched rules of 4 KiB whose agent
// has a long history.
func BenchmarkAbsorb(b *testing.B) {
	s, h := newEnv(b), home{}
	for i := range workspace.MaxRules {
		changed(b)(s.PutRule(b.Context(), actor, agent, fmt.Sprint("rule-", i), strings.Repeat("x", 4096), ""))
	}
	for i := range 2000 {
		changed(b)(s.SetSoul(b.Context(), actor, agent, strings.Repeat("soul ", 3000)+fmt.Sprint(i), ""))
	}
	h.deliver(b, s)
	b.Run("unchanged", func(b *testing.B) {
		for b.Loop() {
			absorb(b, s, h)
		}
	})
	b.Run("content", func(b *testing.B) {
		for b.Loop() {
			must[workspace.Content](b)(s.store.Content(b.Context(), s.db, account, agent))
		}
	})
	b.Run("pending", func(b *testing.B) {
		for b.Loop() {
			pending(b, s)
		}
	})
	b.Run("personality", func(b *testing.B) {
		for b.Loop() {
			soul(b, s)
		}
	})
	b.Run("versions", func(b *testing.B) {
		for b.Loop() {
			must[workspace.Page](b)(s.Versions(b.Context(), account, agent, workspace.Soul, 0, 50))
		}
	})
}
