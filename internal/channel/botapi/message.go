package botapi

import (
	"bytes"
	"encoding/json"

	"agento.host/agento/internal/openclaw"
)

// asText returns a message or an edited message so that its gateway takes it for text,
// whatever it begins with. What cannot be read is returned as it is.
func asText(message json.RawMessage) json.RawMessage {
	var fields map[string]json.RawMessage
	if json.Unmarshal(message, &fields) != nil {
		return message
	}
	changed := false
	for name, entities := range map[string]string{"text": "entities", "caption": "caption_entities"} {
		var written string
		if json.Unmarshal(fields[name], &written) != nil {
			continue
		}
		marked, at := openclaw.AsText(written)
		if at < 0 {
			continue
		}
		text, err := encode(marked)
		if err != nil {
			continue
		}
		changed, fields[name] = true, text
		if list, ok := shiftEntities(fields[entities], at); ok {
			fields[entities] = list
		}
	}
	if !changed {
		return message
	}
	text, err := encode(fields)
	if err != nil {
		return message
	}
	return text
}

// shiftEntities moves the marks of a text, such as bold, in which a unit was inserted. The
// mark of a command is left out: it is none. ok is false if there are none.
func shiftEntities(list json.RawMessage, at int) (shifted json.RawMessage, ok bool) {
	var entities []map[string]json.RawMessage
	if json.Unmarshal(list, &entities) != nil || entities == nil {
		return nil, false
	}
	kept := []map[string]json.RawMessage{}
	for _, e := range entities {
		var kind string
		var offset, length int
		if json.Unmarshal(e["type"], &kind) != nil || json.Unmarshal(e["offset"], &offset) != nil || json.Unmarshal(e["length"], &length) != nil {
			return nil, false
		}
		switch {
		case offset >= at:
			offset++
		case offset+length > at && kind == "bot_command":
			continue
		case offset+length > at:
			length++
		}
		e["offset"], _ = json.Marshal(offset) // of a number never fails
		e["length"], _ = json.Marshal(length)
		kept = append(kept, e)
	}
	text, err := encode(kept)
	return text, err == nil
}

// encode encodes without escaping what HTML would need.
func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}
