package agentarchive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// writer writes an archive. Its methods are called in the order of the sections.
type writer struct {
	gz       *gzip.Writer
	tar      *tar.Writer
	at       time.Time // of every member
	section  int
	number   int // of the last member in its section
	lines    bytes.Buffer
	contents Contents
}

func newWriter(w io.Writer, m Manifest) (*writer, error) {
	gz := gzip.NewWriter(w)
	out := &writer{gz: gz, tar: tar.NewWriter(gz), at: m.ExportedAt}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the manifest: %w", err)
	}
	return out, out.writeMember(manifestName, data)
}

// add adds a value to a section.
func (w *writer) add(at int, v any) error {
	if at != w.section {
		if err := w.flush(); err != nil {
			return err
		}
		w.section, w.number = at, 0
	}
	before := w.lines.Len()
	enc := json.NewEncoder(&w.lines)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode a line of %s: %w", sections[at].name, err)
	}
	*w.contents.of(at)++
	if before > 0 && w.lines.Len() > writtenMember { // the line begins the next member
		line := bytes.Clone(w.lines.Bytes()[before:])
		w.lines.Truncate(before)
		if err := w.flush(); err != nil {
			return err
		}
		w.lines.Write(line)
	}
	if sections[at].single {
		return w.flush()
	}
	return nil
}

// flush writes the lines as the next member of the section.
func (w *writer) flush() error {
	if w.lines.Len() == 0 {
		return nil
	}
	w.number++
	err := w.writeMember(sections[w.section].member(w.number), w.lines.Bytes())
	w.lines.Reset()
	return err
}

func (w *writer) writeMember(name string, data []byte) error {
	h := &tar.Header{Name: name, Mode: 0o600, Size: int64(len(data)), ModTime: w.at.Truncate(time.Second), Format: tar.FormatUSTAR}
	if err := w.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if _, err := w.tar.Write(data); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// end writes the last member and everything that is buffered.
func (w *writer) end() error {
	if err := w.flush(); err != nil {
		return err
	}
	data, err := json.Marshal(w.contents)
	if err != nil {
		return fmt.Errorf("encode the end: %w", err)
	}
	if err := w.writeMember(endName, data); err != nil {
		return err
	}
	return errors.Join(w.tar.Close(), w.gz.Close())
}
