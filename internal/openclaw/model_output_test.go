package openclaw

import (
	"testing"

	"agento.host/agento/internal/provider"
)

// TestLongestAnswerOfAModel: the owner knows what a model can do that the catalog does not have.
func TestLongestAnswerOfAModel(t *testing.T) {
	p, _ := provider.Find(provider.OpenAI)
	for _, c := range []struct {
		id   string
		most int64
		want int
	}{{"llama-of-mine", 0, 8192}, {"llama-of-mine", 32_768, 32_768}, {"gpt-4o", 0, 16_384}, {"gpt-4o", 1000, 1000}} {
		if got := (Model{Provider: p, ID: c.id, MaxOutput: c.most}).catalogEntry()["maxTokens"]; got != c.want {
			t.Errorf("%s with %d: %v", c.id, c.most, got)
		}
	}
}
