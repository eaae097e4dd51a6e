package skill

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"go.yaml.in/yaml/v3"

	"agento.host/agento/internal/fault"
)

const maxManifest = 64 << 10

// parseManifest reads a manifest.yaml, or a manifest.json, which is YAML too but
// for what JSON alone allows. With strict an unknown field is a mistake. Faults: Invalid.
func parseManifest(data []byte, strict bool) (Manifest, error) {
	if len(data) > maxManifest {
		return Manifest{}, badManifest("is longer than %d bytes", maxManifest)
	}
	var m Manifest
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' {
		dec := json.NewDecoder(bytes.NewReader(trimmed))
		if strict {
			dec.DisallowUnknownFields()
		}
		if err := dec.Decode(&m); err != nil {
			return Manifest{}, badManifest("is not what it should be: %v", err)
		}
		return m, nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(strict)
	if err := dec.Decode(&m); err != nil && !errors.Is(err, io.EOF) {
		return Manifest{}, badManifest("is not what it should be: %s", firstLine(err))
	}
	return m, nil
}

func badManifest(format string, args ...any) error {
	f := fault.Fields{}
	f.Add("manifest", format, args...)
	return f.Err()
}
