package skill

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"go.yaml.in/yaml/v3"

	"agento.host/agento/internal/fault"
)

const (
	manifestFile = "manifest.yaml"
	maxManifest  = 64 << 10
)

// parseManifest parses a manifest.yaml or manifest.json. JSON has its own decoder, since
// YAML does not accept all of it. If strict, unknown fields are refused. Faults: Invalid.
func parseManifest(data []byte, strict bool) (Manifest, error) {
	if len(data) > maxManifest {
		return Manifest{}, invalidManifest("is longer than %d bytes", maxManifest)
	}
	var m Manifest
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' {
		dec := json.NewDecoder(bytes.NewReader(trimmed))
		if strict {
			dec.DisallowUnknownFields()
		}
		if err := dec.Decode(&m); err != nil {
			return Manifest{}, invalidManifest("cannot be read: %v", err)
		}
		return m, nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(strict)
	if err := dec.Decode(&m); err != nil && !errors.Is(err, io.EOF) {
		return Manifest{}, invalidManifest("cannot be read: %s", inOneLine(err))
	}
	return m, nil
}

func invalidManifest(format string, args ...any) error {
	f := fault.Fields{}
	f.Add("manifest", format, args...)
	return f.Err()
}
