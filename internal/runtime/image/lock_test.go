package image_test

import (
	"strings"
	"testing"

	"agento.host/agento/internal/runtime/image"
)

func TestTheLockFilePinsWhatAgentsNeed(t *testing.T) {
	lock, err := image.EmbeddedLock()
	if err != nil {
		t.Fatal(err)
	}
	for _, architecture := range image.Architectures {
		packages, err := lock.For(architecture)
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, p := range packages {
			if names[p.Name] {
				t.Errorf("%s is there twice for %s", p.Name, architecture)
			}
			names[p.Name] = true
		}
		for _, name := range strings.Fields("bash dash coreutils util-linux sed grep findutils tar gzip xz-utils procps curl ca-certificates git python3 jq ripgrep libstdc++6 libgcc-s1 libc6 netbase base-files tzdata") {
			if !names[name] {
				t.Errorf("the lock file has no %s for %s", name, architecture)
			}
		}
	}
	if _, err := lock.For("riscv64"); err == nil || !strings.Contains(err.Error(), "amd64 and arm64") {
		t.Errorf("riscv64: %v", err)
	}
	again, err := image.ParseLock(lock.String())
	if err != nil || again.String() != lock.String() {
		t.Errorf("the lock file changes when it is written: %v", err)
	}
}

func TestADamagedLockFileIsRefused(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	for text, want := range map[string]string{
		"":                                "no epoch",
		"epoch x":                         "no time",
		"epoch 1\namd64 bash 5 10 " + sum: "columns",
		"epoch 1\namd64 bash 5 -1 " + sum + " debian/x":  "size",
		"epoch 1\namd64 bash 5 10 abc debian/x":          "SHA-256",
		"epoch 1\namd64 bash 5 10 " + sum + " ../x":      "below",
		"epoch 1\namd64 bash 5 10 " + sum + " /debian/x": "below",
	} {
		if _, err := image.ParseLock(text); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "make image-lock") {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}
