// Package swarm owns swarms: agents of one account that share a knowledge base and the
// keys of model providers. Store holds the swarms, for the packages that run agents.
// Service is for the callers of the API. Which agents are in a swarm is part of the
// agents' own records, which Service reads and changes through Agents.
//
// Slugs are made here: github.com/gosimple/slug v1.15 gives other slugs for & (it writes
// "and"), for German umlauts without the language ("muller"), for Greek ("anaptuxes"),
// for circled digits (none) and for Chinese and Japanese (pinyin).
package swarm

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// Swarm is a group of agents. Description and Icon may be empty.
type Swarm struct {
	ID                      identity.SwarmID
	AccountID               identity.AccountID
	Name, Slug              string
	Description, Icon       string
	AgentCount, MemberCount int
	CreatedAt, UpdatedAt    time.Time
}

// AgentRow is an agent as its swarm shows it.
type AgentRow struct {
	ID           identity.AgentID
	Name, Status string
	CreatedAt    time.Time
}

// Details is a swarm with its agents.
type Details struct {
	Swarm
	Agents []AgentRow
}

// Changes are the new values of an update; nil leaves a field as it is. An empty
// Description or Icon removes it.
type Changes struct {
	Name, Description, Icon *string
}

// The limits of swarms, in characters, and how many swarms an account may have: the
// list of swarms is not paged.
const (
	MaxName        = 100
	MaxDescription = 500
	MaxIcon        = 64
	MaxSwarms      = 1000
)

// apply applies the changes and returns the names of the fields that are different now.
func (sw *Swarm) apply(c Changes) []string {
	changed := []string{}
	for _, f := range []struct {
		name  string
		value *string
		field *string
	}{{"name", c.Name, &sw.Name}, {"description", c.Description, &sw.Description}, {"icon", c.Icon, &sw.Icon}} {
		if f.value == nil {
			continue
		}
		if v := strings.TrimSpace(*f.value); v != *f.field {
			*f.field = v
			changed = append(changed, f.name)
		}
	}
	return changed
}

// validate returns nil if the fields are valid. Faults: Invalid.
func (sw *Swarm) validate() error {
	fields := fault.Fields{}
	if sw.Name == "" {
		fields.Add("name", "must have 1 to %d characters", MaxName)
	}
	if fault.IsBlank(sw.Name) {
		fields.Add("name", "must not consist of blanks")
	}
	checkText(fields, "name", sw.Name, MaxName, false)
	checkText(fields, "description", sw.Description, MaxDescription, true)
	checkText(fields, "icon", sw.Icon, MaxIcon, false)
	return fields.Err()
}

func checkText(fields fault.Fields, field, text string, limit int, multiline bool) {
	switch {
	case !utf8.ValidString(text):
		fields.Add(field, "must be valid UTF-8")
	case utf8.RuneCountInString(text) > limit:
		fields.Add(field, "must have at most %d characters", limit)
	case strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && (!multiline || !strings.ContainsRune("\n\r\t", r)) }):
		fields.Add(field, "must not contain control characters")
	}
}
