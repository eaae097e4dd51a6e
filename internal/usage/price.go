package usage

import (
	"regexp"
	"time"

	"agento.host/agento/internal/provider"
)

// Price is what the calls of a model cost in a period.
type Price struct {
	Provider provider.Name // empty: whichever provider serves the model
	Model    string
	From     time.Time // the first day, in UTC; zero: no beginning
	Until    time.Time // the first day after it, in UTC; zero: no known end
	Source   string    // the document that the figures are from
	Read     string    // the day on which that was read, as 2006-01-02
	Tiers    []Tier    // by the length of the prompt, shortest first
}

// Tier has the figures for calls whose prompt has at most UpTo tokens, cached ones included, in
// millionths of a dollar for a million tokens. A figure that is nil is not known: calls that need
// it have no price.
type Tier struct {
	UpTo       int64 // 0: any length
	Input      *int64
	Output     *int64
	CacheRead  *int64
	CacheWrite *int64
	HourWrite  *int64 // of what the provider keeps for an hour, beside CacheWrite
}

// Prices are the prices of models.
type Prices struct {
	own     map[string][]Price // of the operator's file, by model
	builtIn map[string][]Price
}

// datedModel is the end of a model's name that says of which day it is.
var datedModel = regexp.MustCompile(`-(\d{8}|\d{4}-\d{2}-\d{2})$`)

// find returns the price of a model at a time. The operator's prices of a model replace the
// built-in ones, for all times. A name that ends with a day has the price of the name without it,
// unless it has one of its own.
func (p *Prices) find(name provider.Name, model string, at time.Time) (Price, bool) {
	models := []string{model}
	if base := datedModel.ReplaceAllString(model, ""); base != model {
		models = append(models, base)
	}
	for _, all := range []map[string][]Price{p.own, p.builtIn} {
		for _, m := range models {
			listed := false
			for _, price := range all[m] {
				if price.Provider != "" && price.Provider != name {
					continue
				}
				if listed = true; price.holdsAt(at) {
					return price, true
				}
			}
			if listed {
				return Price{}, false
			}
		}
	}
	return Price{}, false
}

func (p Price) holdsAt(t time.Time) bool {
	return !t.Before(p.From) && (p.Until.IsZero() || t.Before(p.Until))
}

// Cost returns the price of a call in millionths of a dollar, rounded to the nearest. known is
// false if the table does not have what the call needs.
func (p *Prices) Cost(c Call) (micros int64, known bool) {
	price, ok := p.find(c.Provider, c.Model, c.At)
	if !ok {
		return 0, false
	}
	for _, t := range price.Tiers {
		if t.UpTo == 0 || c.Prompt() <= t.UpTo {
			return t.cost(c)
		}
	}
	return 0, false
}

func (t Tier) cost(c Call) (micros int64, known bool) {
	hour := min(c.HourWrites, c.CacheWrite)
	const million = 1_000_000
	var rest int64 // in millionths of a millionth
	for _, part := range []struct {
		tokens int64
		figure *int64
	}{{c.Input, t.Input}, {c.Output, t.Output}, {c.CacheRead, t.CacheRead}, {c.CacheWrite - hour, t.CacheWrite}, {hour, t.HourWrite}} {
		if part.tokens == 0 {
			continue
		}
		if part.figure == nil {
			return 0, false
		}
		product := part.tokens * *part.figure // at most 10^8 tokens of 10^10
		micros += product / million
		rest += product % million
	}
	return micros + (rest+million/2)/million, true
}
