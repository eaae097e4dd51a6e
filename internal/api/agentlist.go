package api

import (
	"bytes"
	"encoding/json"
	"strconv"

	"agento.host/agento/client"
)

// appendJSON encodes the bodies of lists that are read often and can have thousands of
// rows, as encoding/json does; see rest.Settings.
func appendJSON(b []byte, body any) ([]byte, bool) {
	if agents, ok := body.(client.List[client.AgentSummary]); ok {
		return appendAgents(b, agents), true
	}
	return b, false
}

func appendAgents(b []byte, l client.List[client.AgentSummary]) []byte {
	if l.Data == nil {
		b = append(b, `{"data":null`...)
	} else {
		b = append(b, `{"data":[`...)
		for i := range l.Data {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendAgent(b, &l.Data[i])
		}
		b = append(b, ']')
	}
	b = append(b, `,"pagination":{"total":`...)
	b = strconv.AppendInt(b, int64(l.Pagination.Total), 10)
	b = append(b, `,"limit":`...)
	b = strconv.AppendInt(b, int64(l.Pagination.Limit), 10)
	b = append(b, `,"offset":`...)
	b = strconv.AppendInt(b, int64(l.Pagination.Offset), 10)
	b = strconv.AppendBool(append(b, `,"hasMore":`...), l.Pagination.HasMore)
	return append(b, "}}"...)
}

func appendAgent(b []byte, a *client.AgentSummary) []byte {
	b = appendString(append(b, `{"id":`...), a.ID)
	b = appendString(append(b, `,"name":`...), a.Name)
	b = appendString(append(b, `,"status":`...), string(a.Status))
	b = appendString(append(b, `,"region":`...), a.Region)
	b = appendString(append(b, `,"image":`...), a.Image)
	b = append(b, `,"swarm":`...)
	if a.Swarm == nil {
		b = append(b, "null"...)
	} else {
		b = appendString(append(b, `{"id":`...), a.Swarm.ID)
		b = appendString(append(b, `,"name":`...), a.Swarm.Name)
		b = appendString(append(b, `,"slug":`...), a.Swarm.Slug)
		b = append(b, '}')
	}
	b = a.CreatedAt.AppendJSON(append(b, `,"createdAt":`...))
	b = appendTime(append(b, `,"startedAt":`...), a.StartedAt)
	b = appendTime(append(b, `,"stoppedAt":`...), a.StoppedAt)
	return append(appendIncluded(b, a), '}')
}

// appendIncluded encodes the fields that are left out without a value.
func appendIncluded(b []byte, a *client.AgentSummary) []byte {
	if a.Model != nil {
		b = appendString(append(b, `,"model":`...), *a.Model)
	}
	if a.Power != "" {
		b = appendString(append(b, `,"power":`...), a.Power)
	}
	if a.LastError != "" {
		b = appendString(append(b, `,"lastError":`...), a.LastError)
	}
	if a.CostTodayMicros != nil {
		b = strconv.AppendInt(append(b, `,"costTodayMicros":`...), *a.CostTodayMicros, 10)
	}
	if a.LastMessageAt != nil {
		b = a.LastMessageAt.AppendJSON(append(b, `,"lastMessageAt":`...))
	}
	if a.MemoryBytes != nil {
		b = strconv.AppendInt(append(b, `,"memoryBytes":`...), *a.MemoryBytes, 10)
	}
	return b
}

func appendTime(b []byte, t *client.Time) []byte {
	if t == nil {
		return append(b, "null"...)
	}
	return t.AppendJSON(b)
}

// appendString leaves texts that need escaping to encoding/json.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			var out bytes.Buffer
			e := json.NewEncoder(&out)
			e.SetEscapeHTML(false)
			if err := e.Encode(s); err != nil {
				panic(err) // a string can always be encoded
			}
			return append(b, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
