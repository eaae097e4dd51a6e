package usage

import (
	"bytes"
	_ "embed" // of the built-in prices
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"agento.host/agento/internal/provider"
)

//go:embed prices.yaml
var builtInPrices []byte

// LoadPrices returns the built-in prices, with those of the operator's file in place of the ones
// for the same models. path may be empty. Figures are dollars for a million tokens:
//
//	prices:
//	  - model: my-model
//	    provider: openai        # optional
//	    from: 2026-01-01        # optional, the first day
//	    until: 2027-01-01       # optional, the first day after it
//	    source: https://…       # optional
//	    read: 2026-11-27        # optional, when that was read
//	    tiers:
//	      - {upTo: 200000, input: 1.25, output: 10, cacheRead: 0.125}
//	      - {input: 2.50, output: 15, cacheRead: 0.25}
//
// The error names everything that is wrong.
func LoadPrices(path string) (*Prices, error) {
	builtIn, err := parsePrices("built-in prices", builtInPrices)
	if err != nil {
		return nil, err
	}
	p := &Prices{builtIn: builtIn}
	if path == "" {
		return p, nil
	}
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("read prices: %w", err)
	}
	if p.own, err = parsePrices(path, text); err != nil {
		return nil, fmt.Errorf("prices are invalid:\n%w", err)
	}
	return p, nil
}

// filePrice is a price as the file has it.
type filePrice struct {
	Provider string     `yaml:"provider"`
	Model    string     `yaml:"model"`
	From     day        `yaml:"from"`
	Until    day        `yaml:"until"`
	Source   string     `yaml:"source"`
	Read     day        `yaml:"read"`
	Tiers    []fileTier `yaml:"tiers"`

	line int
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (f *filePrice) UnmarshalYAML(n *yaml.Node) error {
	type plain filePrice
	if err := checkFields(n, "provider", "model", "from", "until", "source", "read", "tiers"); err != nil {
		return err
	}
	err := n.Decode((*plain)(f))
	f.line = n.Line
	return err
}

type fileTier struct {
	UpTo       int64    `yaml:"upTo"`
	Input      *dollars `yaml:"input"`
	Output     *dollars `yaml:"output"`
	CacheRead  *dollars `yaml:"cacheRead"`
	CacheWrite *dollars `yaml:"cacheWrite"`
	HourWrite  *dollars `yaml:"cacheWriteHour"`
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (f *fileTier) UnmarshalYAML(n *yaml.Node) error {
	type plain fileTier
	if err := checkFields(n, "upTo", "input", "output", "cacheRead", "cacheWrite", "cacheWriteHour"); err != nil {
		return err
	}
	return n.Decode((*plain)(f))
}

// checkFields refuses a mapping that has other fields: a figure with a misspelled name would be
// none. The decoder's own check ends where a type decodes itself.
func checkFields(n *yaml.Node, names ...string) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: must be a mapping with %s", n.Line, strings.Join(names, ", "))
	}
	var errs []error
	for i := 0; i < len(n.Content); i += 2 {
		known := false
		for _, name := range names {
			known = known || n.Content[i].Value == name
		}
		if !known {
			errs = append(errs, fmt.Errorf("line %d: there is no field %q: use %s", n.Content[i].Line, n.Content[i].Value, strings.Join(names, ", ")))
		}
	}
	return errors.Join(errs...)
}

// day is a date without a time.
type day struct{ time.Time }

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *day) UnmarshalYAML(n *yaml.Node) (err error) {
	if d.Time, err = time.Parse(time.DateOnly, n.Value); err != nil {
		return fmt.Errorf("line %d: %.40q must be a day such as 2026-11-27", n.Line, n.Value)
	}
	return nil
}

// dollars is an amount of money in millionths of a dollar. It is read from the digits of the
// file, because a binary fraction cannot hold 0.1.
type dollars int64

// maxDollars is the highest figure that is accepted; no model costs a tenth of it.
const maxDollars = 10_000

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *dollars) UnmarshalYAML(n *yaml.Node) error {
	whole, fraction, _ := strings.Cut(n.Value, ".")
	fraction = strings.TrimRight(fraction, "0")
	w, err := strconv.ParseUint(whole, 10, 32)
	if len(fraction) > 6 || err != nil || w >= maxDollars {
		return fmt.Errorf("line %d: %.40q must be dollars for a million tokens, such as 0.125: at least 0, less than %d, with at most 6 decimals", n.Line, n.Value, maxDollars)
	}
	f, err := strconv.ParseUint(fraction+strings.Repeat("0", 6-len(fraction)), 10, 32)
	if err != nil {
		return fmt.Errorf("line %d: %.40q must be dollars for a million tokens, such as 0.125", n.Line, n.Value)
	}
	*d = dollars(w*1_000_000 + f) // less than maxDollars
	return nil
}

func parsePrices(file string, text []byte) (map[string][]Price, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	var content struct {
		Prices []filePrice `yaml:"prices"`
	}
	if err := decoder.Decode(&content); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: must hold one YAML document", file)
	}
	if len(content.Prices) == 0 {
		return nil, fmt.Errorf("%s: must have prices, a list of at least one", file)
	}
	all := map[string][]Price{}
	var errs []error
	for _, f := range content.Prices {
		p, err := f.price()
		for _, other := range all[f.Model] {
			if err == nil && overlap(p, other) {
				err = fmt.Errorf("the model %q has another price at the same time", f.Model)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", file, f.line, err))
			continue
		}
		all[p.Model] = append(all[p.Model], p)
	}
	return all, errors.Join(errs...)
}

// overlap reports whether two prices of a model can both be meant.
func overlap(a, b Price) bool {
	return (a.Provider == "" || b.Provider == "" || a.Provider == b.Provider) &&
		(a.Until.IsZero() || b.From.Before(a.Until)) && (b.Until.IsZero() || a.From.Before(b.Until))
}

func (f filePrice) price() (Price, error) {
	p := Price{Provider: provider.Name(f.Provider), Model: f.Model, From: f.From.Time, Until: f.Until.Time, Source: f.Source}
	if !f.Read.IsZero() {
		p.Read = f.Read.Format(time.DateOnly)
	}
	_, isProvider := provider.Find(p.Provider)
	switch {
	case p.Model == "":
		return p, errors.New("model is missing")
	case p.Provider != "" && !isProvider:
		return p, fmt.Errorf("provider %q is none: use anthropic, openai or google, or leave it out", f.Provider)
	case !p.Until.IsZero() && !p.From.Before(p.Until):
		return p, errors.New("until must be after from")
	case len(f.Tiers) == 0:
		return p, errors.New("tiers must have at least one")
	}
	for i, t := range f.Tiers {
		switch last := i == len(f.Tiers)-1; {
		case t.Input == nil:
			return p, fmt.Errorf("tiers[%d].input is missing", i)
		case t.UpTo < 0, t.UpTo == 0 && !last, i > 0 && t.UpTo != 0 && t.UpTo <= f.Tiers[i-1].UpTo:
			return p, fmt.Errorf("tiers[%d].upTo must be a number of tokens that is greater than that of the tier before; only the last tier can be without it", i)
		}
		p.Tiers = append(p.Tiers, Tier{UpTo: t.UpTo, Input: t.Input.orNil(), Output: t.Output.orNil(), CacheRead: t.CacheRead.orNil(), CacheWrite: t.CacheWrite.orNil(), HourWrite: t.HourWrite.orNil()})
	}
	return p, nil
}

func (d *dollars) orNil() *int64 {
	if d == nil {
		return nil
	}
	n := int64(*d)
	return &n
}
