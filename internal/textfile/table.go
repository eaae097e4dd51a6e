package textfile

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// The names of the columns or keys of questions and answers.
var (
	questionNames = []string{"question", "q", "frage", "pregunta", "domanda"}
	answerNames   = []string{"answer", "a", "antwort", "réponse", "respuesta", "risposta"}
)

// readCSV returns the rows of a table whose first row has the names of the columns.
func readCSV(text string) ([]Piece, error) {
	r := csv.NewReader(strings.NewReader(text))
	r.Comma, r.FieldsPerRecord, r.LazyQuotes = separatorOf(text), -1, true
	names, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the table cannot be read: %w", err)
	}
	var pieces []Piece
	for row := 2; ; row++ {
		values, err := r.Read()
		if errors.Is(err, io.EOF) {
			return pieces, nil
		}
		if err != nil {
			return nil, fmt.Errorf("the table cannot be read: %w", err)
		}
		var fields []field
		for i, v := range values {
			name := ""
			if i < len(names) {
				name = strings.TrimSpace(names[i])
			}
			fields = append(fields, field{name, strings.TrimSpace(v)})
		}
		if p := pieceOf(fields); p.Text != "" {
			p.Metadata = withMetadata(p.Metadata, "row", row)
			pieces = append(pieces, p)
		}
	}
}

// separatorOf returns what the first line has most of.
func separatorOf(text string) rune {
	line, _, _ := strings.Cut(text, "\n")
	best, most := ',', 0
	for _, r := range []rune{',', ';', '\t'} {
		if n := strings.Count(line, string(r)); n > most {
			best, most = r, n
		}
	}
	return best
}

// field is a named value of a row.
type field struct{ name, value string }

// pieceOf returns the text of a row: a question with its answer, or all values with their
// names.
func pieceOf(fields []field) Piece {
	question, answer := find(fields, questionNames), find(fields, answerNames)
	if question != "" && answer != "" {
		return Piece{Text: question + "\n" + answer, Metadata: map[string]any{"type": "faq"}}
	}
	var lines []string
	for _, f := range fields {
		switch {
		case f.value == "":
		case f.name == "":
			lines = append(lines, f.value)
		default:
			lines = append(lines, f.name+": "+f.value)
		}
	}
	return Piece{Text: strings.Join(lines, "\n")}
}

func find(fields []field, names []string) string {
	for _, f := range fields {
		if slices.Contains(names, strings.ToLower(f.name)) {
			return f.value
		}
	}
	return ""
}

// readJSON returns the elements of a list, of the only list in an object, or of lines.
func readJSON(text string) ([]Piece, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var values []any
	for {
		var v any
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("the file is no JSON: %w", err)
		}
		values = append(values, v)
	}
	if len(values) == 1 {
		values = elements(values[0])
	}
	var pieces []Piece
	for _, v := range values {
		if p := jsonPiece(v); p.Text != "" {
			pieces = append(pieces, p)
		}
	}
	return pieces, nil
}

// elements returns the elements of a list, or of the only list in an object.
func elements(v any) []any {
	switch v := v.(type) {
	case []any:
		return v
	case map[string]any:
		var found []any
		lists := 0
		for _, value := range v {
			if list, ok := value.([]any); ok {
				found = list
				lists++
			}
		}
		if lists == 1 && v["text"] == nil {
			return found
		}
	}
	return []any{v}
}

// jsonPiece returns the text of an element. One with the key text is an entry as a
// knowledge base exports it.
func jsonPiece(v any) Piece {
	object, ok := v.(map[string]any)
	if !ok {
		return Piece{Text: jsonText(v)}
	}
	if text, ok := object["text"].(string); ok {
		p := Piece{Text: strings.TrimSpace(text)}
		p.Source, _ = object["source"].(string)
		p.Metadata, _ = object["metadata"].(map[string]any)
		return p
	}
	var fields []field
	for _, name := range slices.Sorted(maps.Keys(object)) {
		fields = append(fields, field{name, jsonText(object[name])})
	}
	return pieceOf(fields)
}

func jsonText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return strings.TrimSpace(v)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}
