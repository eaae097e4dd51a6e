package agentarchive

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/workspace"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// write returns an archive that add adds to.
func write(t testing.TB, add func(*writer) error) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := newWriter(&out, Manifest{Format: formatName, Version: formatVersion, ExportedAt: at, Agent: Record{Name: "Ada", Region: "eu", Config: map[string]any{}, Secrets: []string{}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(add(w), w.end()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestWhatIsWrittenIsRead: in members of some size, whatever the lines are.
func TestWhatIsWrittenIsRead(t *testing.T) {
	contents := []string{"<b> & \u2028 \x01", strings.Repeat("a", writtenMember+1), "b", strings.Repeat("c", writtenMember/2), strings.Repeat("d", writtenMember/2), "e"}
	session := chat.ArchivedSession{Number: 7, Entry: "guest", PeerID: "p", Channel: "api", Name: "n", StartedAt: at}
	version := workspace.ArchivedVersion{Document: "SOUL.md", Number: 3, Content: "Be.", RestoredFrom: 1, At: at}
	files := map[string][]byte{"SKILL.md": []byte("x"), "a/b": {0, 255}}
	data := write(t, func(w *writer) error {
		err := errors.Join(w.add(documents, newVersionLine(version)), w.add(skills, newSkillMember(skill.ArchivedSkill{SkillID: "s", Files: files})),
			w.add(skills, newSkillMember(skill.ArchivedSkill{SkillID: "t"})), w.add(texts, newTextLine(knowledge.Chunk{Text: "t", Source: "s", Metadata: map[string]any{"n": 1}})), w.add(sessions, newSessionLine(session)))
		for _, c := range contents {
			err = errors.Join(err, w.add(messages, newMessageLine(chat.ArchivedMessage{Session: 7, Role: "user", Content: c, At: at})))
		}
		return err
	})
	var got []string
	read, err := Read(data, Handler{
		Version: func(v workspace.ArchivedVersion) error {
			if v != version {
				t.Errorf("%+v", v)
			}
			return nil
		},
		Skill: func(a skill.ArchivedSkill) error {
			if a.SkillID == "s" && (len(a.Files) != 2 || !bytes.Equal(a.Files["a/b"], files["a/b"])) {
				t.Errorf("%+v", a)
			}
			return nil
		},
		Session: func(v chat.ArchivedSession) error {
			if v != session {
				t.Errorf("%+v", v)
			}
			return nil
		},
		Message: func(m chat.ArchivedMessage) error { got = append(got, m.Content); return nil },
	})
	if err != nil || read != (Contents{Documents: 1, Skills: 2, Knowledge: 1, Sessions: 1, Messages: len(contents)}) {
		t.Fatalf("%+v, %v", read, err)
	}
	for i := range contents {
		if got[i] != contents[i] {
			t.Errorf("message %d has %d bytes, want %d", i, len(got[i]), len(contents[i]))
		}
	}
}

// TestUnpackedSizeIsLimited: what little data unpacks to is not read to its end.
func TestUnpackedSizeIsLimited(t *testing.T) {
	blank := strings.Repeat(" ", 1<<16)
	data := write(t, func(w *writer) error {
		var err error
		for range 40 {
			err = errors.Join(err, w.add(texts, newTextLine(knowledge.Chunk{Text: blank, Source: "s"})))
		}
		return err
	})
	if _, err := read(data, Handler{}, 1<<20); !fault.Is(err, fault.TooLarge) || !strings.Contains(err.Error(), "unpacks to more than 1048576 bytes") || len(data) > 50_000 {
		t.Errorf("%d bytes: %v", len(data), err)
	}
	if _, err := Read(data, Handler{}); err != nil {
		t.Error(err)
	}
	if _, err := Read(make([]byte, MaxBytes+1), Handler{}); !fault.Is(err, fault.TooLarge) {
		t.Error(err)
	}
}

// TestCountsAreLimited: a section has no more lines than the format allows.
func TestCountsAreLimited(t *testing.T) {
	before := sections[sessions].maxCount
	sections[sessions].maxCount = 2
	defer func() { sections[sessions].maxCount = before }()
	data := write(t, func(w *writer) error {
		line := newSessionLine(chat.ArchivedSession{Number: 1})
		return errors.Join(w.add(sessions, line), w.add(sessions, line), w.add(sessions, line))
	})
	if _, err := Read(data, Handler{}); !fault.Is(err, fault.TooLarge) || !strings.Contains(err.Error(), "more than 2 sessions") {
		t.Error(err)
	}
}

// FuzzRead: no input makes the reader panic, and what it takes has the shape of the format.
func FuzzRead(f *testing.F) {
	data := write(f, func(w *writer) error {
		return errors.Join(w.add(documents, newVersionLine(workspace.ArchivedVersion{Document: "SOUL.md", Number: 1, Content: "Be.", At: at})),
			w.add(messages, newMessageLine(chat.ArchivedMessage{Session: 1, Role: "user", Content: "Hi", At: at})))
	})
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Add([]byte("\x1f\x8b\x08"))
	f.Fuzz(func(t *testing.T, data []byte) {
		lines := 0
		contents, err := read(data, Handler{
			Version: func(workspace.ArchivedVersion) error { lines++; return nil },
			Message: func(chat.ArchivedMessage) error { lines++; return nil },
		}, 1<<20)
		if err == nil && lines != contents.Documents+contents.Messages {
			t.Errorf("%d lines, %+v", lines, contents)
		}
		if err != nil && fault.From(err).Code == fault.Internal {
			t.Errorf("not a fault: %v", err)
		}
	})
}
