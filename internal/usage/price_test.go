package usage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/provider"
)

var november = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func loadPrices(t *testing.T, text string) (*Prices, error) {
	t.Helper()
	if text == "" {
		return LoadPrices("")
	}
	path := filepath.Join(t.TempDir(), "prices.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadPrices(path)
}

func TestCost(t *testing.T) {
	prices, err := loadPrices(t, "")
	if err != nil {
		t.Fatal(err)
	}
	own, err := loadPrices(t, `
prices:
  - {model: claude-sonnet-5, tiers: [{input: 100, output: 0}]}
  - model: mine
    provider: openai
    from: 2026-11-01
    until: 2026-12-01
    tiers: [{input: 0.1, output: 0.000001}]
`)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		prices   *Prices
		provider provider.Name
		model    string
		at       time.Time
		tokens   Tokens
		hour     int64
		micros   int64
		known    bool
	}{
		"every kind of token":              {prices, provider.Anthropic, "claude-sonnet-5", november, Tokens{Input: 1000, Output: 500, Reasoning: 100, CacheRead: 10_000, CacheWrite: 2000}, 0, 2000 + 5000 + 2000 + 5000, true},
		"what is kept for an hour":         {prices, provider.Anthropic, "claude-sonnet-5", november, Tokens{CacheWrite: 2000}, 500, 1500*5/2 + 500*4, true},
		"hour writes without a figure":     {prices, provider.Anthropic, "claude-opus-5-5", november, Tokens{CacheWrite: 2000}, 500, 0, false},
		"a dated name":                     {prices, provider.Anthropic, "claude-haiku-4-5-20251001", november, Tokens{Input: 7}, 0, 7, true},
		"another form of date":             {prices, provider.OpenAI, "gpt-6.1-sol-2026-09-29", november, Tokens{Input: 7}, 0, 14, true},
		"the last token of a tier":         {prices, provider.Google, "gemini-3.1-pro-preview", november, Tokens{Input: 150_000, CacheRead: 50_000}, 0, 300_000 + 10_000, true},
		"a long context, cached":           {prices, provider.Google, "gemini-3.1-pro-preview", november, Tokens{Input: 150_000, CacheRead: 50_001, Output: 10}, 0, 600_000 + 20_000 + 180, true},
		"longer than what has a price":     {prices, provider.Anthropic, "claude-sonnet-4-5", november, Tokens{Input: 200_001}, 0, 0, false},
		"before a change":                  {prices, provider.Anthropic, "claude-sonnet-5-5", time.Date(2026, 10, 6, 23, 59, 0, 0, time.UTC), Tokens{CacheRead: 1000}, 0, 200, true},
		"after the change":                 {prices, provider.Anthropic, "claude-sonnet-5-5", time.Date(2026, 10, 7, 0, 0, 0, 0, time.UTC), Tokens{CacheRead: 1000}, 0, 100, true},
		"after a promotion":                {prices, provider.OpenAI, "gpt-5.6-sol", november, Tokens{Input: 1000}, 0, 0, false},
		"a kind of token without a figure": {prices, provider.OpenAI, "gpt-6.1-sol", november, Tokens{CacheWrite: 1}, 0, 0, false},
		"an unknown model":                 {prices, provider.OpenAI, "llama-of-mine", november, Tokens{Input: 1000}, 0, 0, false},
		"a model of another provider":      {prices, provider.OpenAI, "claude-sonnet-5", november, Tokens{Input: 1000}, 0, 0, false},
		"nothing used":                     {prices, provider.Anthropic, "claude-sonnet-5", november, Tokens{}, 0, 0, true},
		"the operator's price":             {own, provider.Anthropic, "claude-sonnet-5", november, Tokens{Input: 10}, 0, 1000, true},
		"free of charge":                   {own, provider.Google, "claude-sonnet-5", november, Tokens{Output: 10}, 0, 0, true},
		"built in beside the operator's":   {own, provider.Anthropic, "claude-opus-5", november, Tokens{Input: 10}, 0, 50, true},
		"no figure replaced by a built-in": {own, provider.Anthropic, "claude-sonnet-5", november, Tokens{CacheRead: 10}, 0, 0, false},
		"rounded up":                       {own, provider.OpenAI, "mine", november, Tokens{Input: 5}, 0, 1, true},
		"rounded down":                     {own, provider.OpenAI, "mine", november, Tokens{Input: 4, Output: 99_999}, 0, 0, true},
		"remainders are added":             {own, provider.OpenAI, "mine", november, Tokens{Input: 4, Output: 100_000}, 0, 1, true},
		"outside of the period":            {own, provider.OpenAI, "mine", november.AddDate(0, 0, 4), Tokens{Input: 5}, 0, 0, false},
		"the most tokens of all":           {own, provider.Anthropic, "claude-sonnet-5", november, Tokens{Input: 100_000_000, Output: 100_000_000}, 0, 10_000_000_000, true},
	} {
		micros, known := c.prices.Cost(Call{Provider: c.provider, Model: c.model, At: c.at, Tokens: c.tokens, HourWrites: c.hour})
		if micros != c.micros || known != c.known {
			t.Errorf("%s: %d, %v, want %d, %v", name, micros, known, c.micros, c.known)
		}
	}
}

func TestBuiltInPricesNameTheirSource(t *testing.T) {
	prices, err := LoadPrices("")
	if err != nil {
		t.Fatal(err)
	}
	for model, all := range prices.builtIn {
		for _, p := range all {
			if p.Provider == "" || !strings.HasPrefix(p.Source, "https://") || p.Read == "" {
				t.Errorf("%s: %+v", model, p)
			}
		}
	}
	for _, p := range provider.All() {
		if _, known := prices.Cost(Call{Provider: p.Name, Model: p.DefaultModel, At: november, Tokens: Tokens{Input: 1, Output: 1, CacheRead: 1}}); !known {
			t.Errorf("%s, the default of %s, has no price", p.DefaultModel, p.Name)
		}
	}
}

func TestInvalidPricesAreNamed(t *testing.T) {
	tier := "tiers: [{input: 1}]"
	for text, want := range map[string]string{
		"":                                                      "must have prices",
		"prices: []":                                            "must have prices",
		"price: []":                                             "field price not found",
		"prices: [{model: a, cost: 1}]":                         `line 1: there is no field "cost"`,
		"prices: [{" + tier + "}]":                              "prices.yaml:1: model is missing",
		"prices: [{model: a}]":                                  "tiers must have at least one",
		"prices: [{model: a, tiers: [{}]}]":                     "tiers[0].input is missing",
		"prices: [{model: a, tiers: [1]}]":                      "must be a mapping",
		"prices: [{model: a, tiers: [{in: 1}]}]":                `there is no field "in"`,
		"prices: [{model: a, tiers: [{input: -1}]}]":            "must be dollars",
		"prices: [{model: a, tiers: [{input: 1e3}]}]":           "must be dollars",
		"prices: [{model: a, tiers: [{input: 0.1234567}]}]":     "must be dollars",
		"prices: [{model: a, tiers: [{input: 0.+12}]}]":         "must be dollars",
		"prices: [{model: a, tiers: [{input: 10000}]}]":         "must be dollars",
		"prices: [{model: a, tiers: [{input: 1}, {input: 2}]}]": "tiers[0].upTo",
		"prices: [{model: a, tiers: [{upTo: 5, input: 1}, {upTo: 5, input: 2}]}]":        "tiers[1].upTo",
		"prices: [{model: a, provider: acme, " + tier + "}]":                             `provider "acme" is none`,
		"prices: [{model: a, from: tomorrow, " + tier + "}]":                             "must be a day",
		"prices: [{model: a, from: 2026-01-01, until: 2026-01-01, " + tier + "}]":        "until must be after from",
		"prices: [{model: a, " + tier + "}, {model: a, provider: google, " + tier + "}]": "another price at the same time",
		"prices: [{model: a, " + tier + "}]\n---\nprices: []":                            "one YAML document",
	} {
		if text == "" {
			text = " "
		}
		if _, err := loadPrices(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if _, err := LoadPrices(filepath.Join(t.TempDir(), "none.yaml")); err == nil {
		t.Error("a file that is not there is accepted")
	}
}
