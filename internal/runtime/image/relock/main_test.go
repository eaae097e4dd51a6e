package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseURIs(t *testing.T) {
	sum := strings.Repeat("0a", 32)
	out := "Reading package lists...\n'http://deb.debian.org/debian/pool/main/libc/libcap2/libcap2_2.66-4%2bdeb12u3_amd64.deb' libcap2_1%3a2.66-4+deb12u3_amd64.deb 27708 SHA256:" + sum + "\n" +
		"'http://deb.debian.org/debian/pool/main/g/git/git-man_2.39_all.deb' git-man_2.39_all.deb 5 SHA256:" + sum + "\n"
	packages, err := parseURIs(out, "amd64")
	if err != nil || len(packages) != 1 {
		t.Fatalf("%v, %v", packages, err)
	}
	p := packages[0]
	if p.Architecture != "amd64" || p.Name != "libcap2" || p.Version != "1:2.66-4+deb12u3" || p.Size != 27708 || p.SHA256 != sum || p.Path != "debian/pool/main/libc/libcap2/libcap2_2.66-4+deb12u3_amd64.deb" {
		t.Errorf("%+v", p)
	}
	for _, bad := range []string{"", "'http://deb.debian.org/debian/x_1_all.deb' x_1_all.deb 5 MD5Sum:" + sum[:32] + "\n", "'http://elsewhere/x_1_all.deb' x_1_all.deb 5 SHA256:" + sum + "\n"} {
		if packages, err := parseURIs(bad, "amd64"); err == nil {
			t.Errorf("%q: %v", bad, packages)
		}
	}
}

func TestNewestRelease(t *testing.T) {
	dir := t.TempDir()
	for name, date := range map[string]string{"a": "Sat, 11 Jul 2026 10:16:37 UTC", "b": "Thu, 26 Nov 2026 21:03:35 UTC"} {
		if err := os.WriteFile(filepath.Join(dir, name+"_InRelease"), []byte("Suite: x\nDate: "+date+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if newest, err := newestRelease(dir); err != nil || !newest.Equal(time.Date(2026, 11, 26, 21, 3, 35, 0, time.UTC)) {
		t.Errorf("%v, %v", newest, err)
	}
}
