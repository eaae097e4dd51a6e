package agentarchive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/workspace"
)

// Handler gets what Read reads, in the order of the archive. A nil function takes what it is
// for without looking at it.
type Handler struct {
	Manifest func(Manifest) error
	Version  func(workspace.ArchivedVersion) error
	Skill    func(skill.ArchivedSkill) error
	Text     func(knowledge.Chunk) error
	Session  func(chat.ArchivedSession) error
	Message  func(chat.ArchivedMessage) error
}

// Read reads an archive to its end and calls the handler. A fault of the handler is returned
// with the place of what it was called with. The format is checked, but not what the values
// mean. Faults: Invalid, TooLarge, those of the handler.
func Read(data []byte, h Handler) (Contents, error) { return read(data, h, maxPlainBytes) }

// read is Read with the most bytes that the archive may have unpacked.
func read(data []byte, h Handler, maxPlain int64) (Contents, error) {
	if len(data) > MaxBytes {
		return Contents{}, fault.New(fault.TooLarge, "The archive has %d bytes; at most %d are allowed. Export the agent without some of its parts.", len(data), MaxBytes)
	}
	packed := bytes.NewReader(data)
	gz, err := gzip.NewReader(packed)
	if err != nil {
		return Contents{}, invalid("is not a gzip file: send what agento agents export has written")
	}
	gz.Multistream(false)
	r := &reader{handler: h, plain: &limitedReader{r: gz, left: maxPlain, limit: maxPlain}}
	r.tar = tar.NewReader(r.plain)
	for !r.ended {
		if err := r.readMember(); err != nil {
			return Contents{}, err
		}
	}
	if h, err := r.tar.Next(); err == nil {
		return Contents{}, invalid("has %s after %s", quote(h.Name), endName)
	} else if !errors.Is(err, io.EOF) {
		return Contents{}, r.broken(err)
	}
	if n, err := io.Copy(io.Discard, r.plain); err != nil { // to the checksum
		return Contents{}, r.broken(err)
	} else if n > maxPadding || packed.Len() > 0 {
		return Contents{}, invalid("has more data after its end")
	}
	return r.contents, nil
}

// maxPadding is what programs that write tar files put after its end.
const maxPadding = 64 << 10

// reader is the state of Read.
type reader struct {
	handler  Handler
	plain    *limitedReader
	tar      *tar.Reader
	began    bool // the manifest has been read
	ended    bool
	section  int // of the last member
	number   int // of the last member in its section; 0: none
	contents Contents
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, "The archive %s.", fmt.Sprintf(format, args...))
}

// broken returns the fault of an archive that cannot be unpacked.
func (r *reader) broken(err error) error {
	switch {
	case r.plain.exceeded:
		return fault.New(fault.TooLarge, "The archive unpacks to more than %d bytes. Export the agent without some of its parts.", r.plain.limit)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return invalid("ends too early: part of it is missing")
	}
	return invalid("is damaged: %v", err)
}

func (r *reader) readMember() error {
	h, err := r.tar.Next()
	if err != nil {
		return r.broken(err)
	}
	section, limit, err := r.place(h)
	if err != nil {
		return err
	}
	if h.Size > int64(limit) {
		return fault.New(fault.TooLarge, "The archive has a member %s of %d bytes; at most %d are allowed.", h.Name, h.Size, limit)
	}
	data, err := io.ReadAll(r.tar)
	if err != nil {
		return r.broken(err)
	}
	switch h.Name {
	case manifestName:
		r.began = true
		return r.readManifest(data)
	case endName:
		r.ended = true
		return r.readEnd(data)
	}
	return r.readSection(section, h.Name, data)
}

// place returns the section of a member and the most bytes that it may have. Any other member
// than the next of the section, the first of a later one or the end is refused: so there is
// none twice, and none with a path.
func (r *reader) place(h *tar.Header) (at, limit int, err error) {
	name := h.Name
	if h.Typeflag != tar.TypeReg || len(h.PAXRecords) > 0 && hasSparse(h.PAXRecords) {
		return 0, 0, invalid("has %s, which is no file", quote(name))
	}
	if !r.began {
		if name != manifestName {
			return 0, 0, invalid("begins with %s instead of %s: send what agento agents export has written", quote(name), manifestName)
		}
		return 0, maxManifest, nil
	}
	if name == endName {
		return 0, maxManifest, nil
	}
	for at := r.section; at < len(sections); at++ {
		next := 1
		if at == r.section {
			next = r.number + 1
		}
		if name == sections[at].member(next) {
			r.section, r.number = at, next
			return at, maxMember, nil
		}
	}
	return 0, 0, invalid("has %s in a place where the format has no such member", quote(name))
}

func hasSparse(records map[string]string) bool {
	for key := range maps.Keys(records) {
		if strings.HasPrefix(key, "GNU.sparse") {
			return true
		}
	}
	return false
}

func (r *reader) readManifest(data []byte) error {
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := jsonv2.Unmarshal(data, &head); err != nil {
		return invalid("has a %s that %s", manifestName, describe(err))
	}
	switch {
	case head.Format != formatName:
		return invalid("has the format %s: this server reads %s", quote(head.Format), formatName)
	case head.Version > formatVersion:
		return invalid("has version %d of its format, which a newer agento has written: this server reads up to version %d. Update this server, or export the agent with its version", head.Version, formatVersion)
	case head.Version < 1:
		return invalid("has version %d of its format: there is no such version", head.Version)
	}
	var m Manifest
	if err := decode(data, &m); err != nil {
		return invalid("has a %s that %s", manifestName, describe(err))
	}
	if r.handler.Manifest == nil {
		return nil
	}
	return locate(manifestName, 0, r.handler.Manifest(m))
}

func (r *reader) readEnd(data []byte) error {
	var end Contents
	if err := decode(data, &end); err != nil {
		return invalid("has a %s that %s", endName, describe(err))
	}
	r.contents.Damaged = end.Damaged
	if end != r.contents {
		return invalid("is incomplete: its end speaks of other numbers of documents, skills, texts, sessions and messages than it has")
	}
	return nil
}

func (r *reader) readSection(at int, name string, data []byte) error {
	s := sections[at]
	if s.single {
		return r.readLine(at, name, 0, data)
	}
	for number := 1; len(data) > 0; number++ {
		line, rest, ended := bytes.Cut(data, []byte("\n"))
		if !ended {
			return invalid("has a last line of %s without an end", name)
		}
		if err := r.readLine(at, name, number, line); err != nil {
			return err
		}
		data = rest
	}
	return nil
}

func (r *reader) readLine(at int, name string, number int, line []byte) error {
	s := sections[at]
	count := r.contents.of(at)
	if *count++; *count > s.maxCount {
		return fault.New(fault.TooLarge, "The archive has more than %d %s.", s.maxCount, s.name)
	}
	if len(line) > s.maxLine {
		return fault.New(fault.TooLarge, "The archive has a line %d of %s with %d bytes; at most %d are allowed.", number, name, len(line), s.maxLine)
	}
	var err error
	switch at {
	case documents:
		err = handle(line, r.handler.Version, func(l versionLine) (workspace.ArchivedVersion, error) { return l.version(), nil })
	case skills:
		err = handle(line, r.handler.Skill, skillMember.skill)
	case texts:
		err = handle(line, r.handler.Text, func(l textLine) (knowledge.Chunk, error) { return l.chunk(), nil })
	case sessions:
		err = handle(line, r.handler.Session, func(l sessionLine) (chat.ArchivedSession, error) { return l.session(), nil })
	case messages:
		err = handle(line, r.handler.Message, func(l messageLine) (chat.ArchivedMessage, error) { return l.message(), nil })
	}
	if syntax := (*syntaxError)(nil); errors.As(err, &syntax) {
		return invalid("has a %s that %s", position(name, number), syntax)
	}
	return locate(name, number, err)
}

// handle decodes a value and calls f with it, if there is an f.
func handle[L, V any](data []byte, f func(V) error, convert func(L) (V, error)) error {
	if f == nil {
		return nil
	}
	var l L
	if err := decode(data, &l); err != nil {
		return &syntaxError{describe(err)}
	}
	v, err := convert(l)
	if err != nil {
		return err
	}
	return f(v)
}

// syntaxError completes a sentence about a value.
type syntaxError struct{ text string }

// Error implements error.
func (e *syntaxError) Error() string { return e.text }

// position names a line of a member, or the member if number is 0.
func position(member string, number int) string {
	if number == 0 {
		return member
	}
	return fmt.Sprintf("line %d of %s", number, member)
}

// locate returns a fault with the place in the archive that it is about. Faults of the account
// and of the server have no place.
func locate(member string, number int, err error) error {
	if err == nil || !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.Forbidden) && !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.TooLarge) {
		return err
	}
	f := fault.From(err)
	located := fault.New(f.Code, "The archive cannot be imported because of %s: %s", position(member, number), f.Message)
	located.Details, located.RetryAfter = f.Details, f.RetryAfter
	return located
}

// decode decodes JSON that every reader reads alike: without names twice, unknown names and
// invalid UTF-8. Numbers in free-form values keep all their digits.
func decode(data []byte, v any) error {
	return jsonv2.Unmarshal(data, v, jsonv2.RejectUnknownMembers(true), keepNumbers)
}

var keepNumbers = jsonv2.WithUnmarshalers(jsonv2.UnmarshalFromFunc(func(dec *jsontext.Decoder, v *any) error {
	if dec.PeekKind() != '0' {
		return errors.ErrUnsupported // the default does it
	}
	number, err := dec.ReadValue()
	*v = json.Number(number)
	return err
}))

// describe completes a sentence about a value that cannot be decoded. It repeats nothing of
// the value but the place.
func describe(err error) string {
	var semantic *jsonv2.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.As(err, &semantic):
		if errors.Is(err, jsonv2.ErrUnknownName) {
			return fmt.Sprintf("has a field that the format does not have, %.80q", string(semantic.JSONPointer))
		}
		return fmt.Sprintf("has a value of another type than the format has, at %.80q", string(semantic.JSONPointer))
	case errors.As(err, &syntactic):
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return fmt.Sprintf("has the field %.80q twice", string(syntactic.JSONPointer))
		}
		return fmt.Sprintf("is not JSON, at byte %d", syntactic.ByteOffset)
	}
	return "is not JSON"
}

// quote quotes a name of an archive for a message.
func quote(name string) string {
	if runes := []rune(name); len(runes) > 80 {
		name = string(runes[:80]) + "…"
	}
	return fmt.Sprintf("%q", name)
}

// limitedReader fails after limit bytes.
type limitedReader struct {
	r        io.Reader
	limit    int64
	left     int64
	exceeded bool
}

// Read implements io.Reader.
func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		l.exceeded = true
		return 0, errors.New("too much data")
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}
