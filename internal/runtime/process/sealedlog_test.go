package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/vault"
)

// sealedLog returns a log with its file, and the vault and database with its data key.
func sealedLog(t *testing.T, maxBytes int64, keep int) (l *gatewayLog, f *os.File, v *vault.Vault, db *database.DB) {
	t.Helper()
	l, f = newLog(t, t.TempDir(), maxBytes)
	l.keep = keep
	db = databasetest.New(t)
	v, err := vault.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	inTx(t, db, func(ctx context.Context, tx *database.Tx) error { return v.Put(ctx, tx, "acct_1", "agent", nil) })
	l.key = func(ctx context.Context) (vault.TextKey, error) { return v.TextKey(ctx, db, "acct_1", "agent") }
	return l, f, v, db
}

func inTx(t *testing.T, db *database.DB, f func(context.Context, *database.Tx) error) {
	t.Helper()
	if err := db.Tx(t.Context(), "process.test", f); err != nil {
		t.Fatal(err)
	}
}

// writeLines writes the lines from one number to another, as checkKept wants them.
func writeLines(t *testing.T, f *os.File, from, to int) {
	t.Helper()
	var text strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&text, "line %06d of a gateway that prints a lot\n", i)
	}
	if _, err := f.WriteString(text.String()); err != nil {
		t.Fatal(err)
	}
}

func olderFiles(t *testing.T, l *gatewayLog) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(l.dir, logName+".*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestRotatedLogsAreSealed, and can be read over a restart; those of before sealing too.
func TestRotatedLogsAreSealed(t *testing.T) {
	l, f, _, _ := sealedLog(t, 3*blockSize, 4)
	key := l.key
	l.key = nil // not sealed
	writeLines(t, f, 0, 10_000)
	if err := l.rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.key = key
	for i := 1; i < 3; i++ {
		writeLines(t, f, i*10_000, (i+1)*10_000)
		if err := l.rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	files := olderFiles(t, l)
	if want := []string{l.path(1) + sealedSuffix, l.path(2) + sealedSuffix, l.path(3)}; !slices.Equal(files, want) {
		t.Fatalf("the older files are %q, want %q", files, want)
	}
	for _, name := range files[:2] {
		if content, err := os.ReadFile(name); err != nil || bytes.Contains(content, []byte("gateway that prints")) {
			t.Errorf("%s shows its text: %v", name, err)
		}
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	checkKept(t, l, 30_000)
	again := &gatewayLog{dir: l.dir, maxBytes: l.maxBytes, keep: l.keep, key: l.key}
	checkKept(t, again, 30_000)
	if all := readAll(t, again, -1); strings.Count(all, "\n") != 30_000 {
		t.Errorf("%d lines are kept", strings.Count(all, "\n"))
	}
	for i := 3; i < 6; i++ {
		writeLines(t, f, i*10_000, (i+1)*10_000)
		if err := l.rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(olderFiles(t, l)); n != 4 {
		t.Errorf("%d older files", n)
	}
	checkKept(t, l, 60_000)
}

// The file system cannot remove the head of a file.
func TestSealedLogsTruncatedWhereHeadsCannotBeRemoved(t *testing.T) {
	l, f, _, _ := sealedLog(t, 2*blockSize, 2)
	writeLines(t, f, 0, 8000)
	current, err := os.OpenFile(l.path(0), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = current.Close() }()
	if err := l.archive(t.Context(), current, 0, 4*blockSize); err != nil {
		t.Fatal(err)
	}
	if err := l.truncate(t.Context(), current, 4*blockSize); err != nil {
		t.Fatal(err)
	}
	writeLines(t, f, 8000, 8001)
	checkKept(t, l, 8001)
	if all := readAll(t, l, -1); strings.Count(all, "\n") != 8001 {
		t.Errorf("%d lines are kept", strings.Count(all, "\n"))
	}
}

// Without the data key, sealed files are left out and the head is discarded: it is stored
// nowhere in clear, and the log does not grow.
func TestLogsWithoutTheDataKey(t *testing.T) {
	l, f, v, db := sealedLog(t, 3*blockSize, 3)
	writeLines(t, f, 0, 10_000)
	if err := l.rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	inTx(t, db, func(ctx context.Context, tx *database.Tx) error { return v.Shred(ctx, tx, "acct_1", "agent") })
	if all := readAll(t, l, -1); strings.Contains(all, "line 000000") || !strings.Contains(all, "line 009999") {
		t.Errorf("%d lines, want those of gateway.log", strings.Count(all, "\n"))
	}
	if last := readAll(t, l, 9_999); !strings.HasSuffix(last, "line 009999 of a gateway that prints a lot\n") {
		t.Errorf("the tail ends with %q", last[max(0, len(last)-50):])
	}
	writeLines(t, f, 10_000, 20_000)
	if err := l.rotate(t.Context()); !errors.Is(err, errDiscarded) {
		t.Error(err)
	}
	if st, err := os.Stat(l.path(0)); err != nil || st.Size() > l.maxBytes {
		t.Errorf("%d bytes, %v", st.Size(), err)
	}
	if files := olderFiles(t, l); len(files) != 1 {
		t.Errorf("the older files are %q", files)
	}
}

// A damaged block hides the rest of its file and nothing else.
func TestDamagedSealedLog(t *testing.T) {
	l, f, _, _ := sealedLog(t, 3*blockSize, 3)
	for i := range 2 {
		writeLines(t, f, i*10_000, (i+1)*10_000)
		if err := l.rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(l.path(1) + sealedSuffix)
	if err != nil {
		t.Fatal(err)
	}
	content[sealedBlock+100] ^= 1
	if err := os.WriteFile(l.path(1)+sealedSuffix, content, 0o600); err != nil {
		t.Fatal(err)
	}
	all := readAll(t, l, -1)
	if !strings.HasPrefix(all, "line 000000") || !strings.HasSuffix(all, "line 019999 of a gateway that prints a lot\n") {
		t.Errorf("%d bytes, from %.20q", len(all), all)
	}
}
