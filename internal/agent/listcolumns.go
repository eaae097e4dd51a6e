package agent

import (
	"fmt"
	"strconv"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/provider"
)

// Include says what a list has of its agents beside their records.
type Include struct {
	Model       bool
	State       bool // Power and LastError
	Usage       bool // CostToday
	LastMessage bool
	Memory      bool
}

// Sort is the order of a list: the name of one of sorts, after a hyphen for the reverse.
type Sort string

// sorts has what each order compares.
var sorts = map[Sort]string{
	"name": "search_name", "created": "created_at", "status": "shown_status", "model": modelColumn, "cost": costColumn, "lastMessage": messageColumn, "memory": memoryColumn,
}

// order returns the ORDER BY of a list. Equal agents are in the order of their age.
func (s Sort) order() string {
	name, reverse := strings.CutPrefix(string(s), "-")
	column, ok := sorts[Sort(name)]
	if !ok {
		column, reverse = "created_at", true
	}
	if reverse {
		return column + " DESC, id DESC"
	}
	return column + ", id"
}

// Columns of the query of a list. They name the account as $1.
const (
	messageColumn = `coalesce((SELECT max(m.at) FROM messages m WHERE m.account_id = $1 AND m.agent_id = agents.id), 0)`
	memoryColumn  = `CAST(memory_bytes AS BIGINT)`
	powerColumn   = `power`
	errorColumn   = `last_error`
)

// costColumn is the price of the calls since midnight UTC.
const costColumn = `coalesce((SELECT CAST(sum(u.cost_micros) AS BIGINT) FROM usage u
	WHERE u.account_id = $1 AND u.agent_id = agents.id AND u.hour >= CAST(unixepoch('now', 'start of day') AS BIGINT) * 1000), 0)`

// modelColumn is the model that an agent calls: that of its config, else the default of its
// provider, which is that of its config, else the first that it or its swarm has a key of.
var modelColumn = func() string {
	var keys, models strings.Builder
	for i, p := range provider.All() {
		fmt.Fprintf(&keys, " WHEN '%s' THEN %d", p.Secret, i)
		fmt.Fprintf(&models, " WHEN '%s' THEN '%s' WHEN '%d' THEN '%s'", p.Name, p.DefaultModel, i, p.DefaultModel)
	}
	return `CASE WHEN json_valid(config) THEN coalesce(json_extract(config, '$.model'), CASE coalesce(json_extract(config, '$.llmProvider'),
		(SELECT CAST(min(CASE s.name` + keys.String() + ` END) AS TEXT) FROM secrets s WHERE s.account_id = $1 AND s.owner_id IN (agents.id, agents.swarm_id)))` + models.String() + ` END, '') ELSE '' END`
}()

// text returns a column of the list without the separators, which a name never has.
func text(column string) string {
	return `, replace(replace(` + column + `, char(30), ' '), char(31), ' ')`
}

// columns returns the columns of what is included, each after a comma, in the order of parse.
func (in Include) columns() string {
	var b strings.Builder
	for _, c := range []struct {
		wanted  bool
		columns string
	}{
		{in.Model, text(modelColumn)}, {in.State, ", " + powerColumn + text(errorColumn)}, {in.Usage, ", " + costColumn}, {in.LastMessage, ", " + messageColumn}, {in.Memory, ", " + memoryColumn},
	} {
		if c.wanted {
			b.WriteString(c.columns)
		}
	}
	return b.String()
}

// parse reads the columns of what is included.
func (in Include) parse(v *Summary, next func() string) {
	number := func() int64 {
		n, _ := strconv.ParseInt(next(), 10, 64) // damaged is like unknown
		return n
	}
	if in.Model {
		v.Model = next()
	}
	if in.State {
		v.Power, v.LastError = Power(next()), next()
	}
	if in.Usage {
		v.CostToday = number()
	}
	if in.LastMessage {
		if at := number(); at > 0 {
			v.LastMessageAt = database.Time(at)
		}
	}
	if in.Memory {
		v.MemoryBytes = number()
	}
}
