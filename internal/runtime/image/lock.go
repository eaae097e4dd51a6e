package image

import (
	"bufio"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// lockText pins the packages of the base layer. make image-lock writes it.
//
//go:embed lock/debian.lock
var lockText string

const (
	lockHeader   = "# The Debian packages of the image's base layer. Written by make image-lock: do not edit.\n"
	lockColumns  = "# architecture name version size sha256 path\n"
	epochKeyword = "epoch"
)

// Architectures are those that the lock file has packages for, by Go's names.
var Architectures = []string{"amd64", "arm64"}

// Lock is the lock file of the base layer.
type Lock struct {
	Epoch    time.Time // of all files in the image
	Packages []Package
}

// Package is a Debian package that the lock file pins.
type Package struct {
	Architecture string // that the package is installed on; the package itself may be for all
	Name         string
	Version      string
	Size         int64
	SHA256       string // hexadecimal
	Path         string // below the root of a mirror, such as "debian/pool/main/b/bash/bash_5.2_amd64.deb"
}

// EmbeddedLock returns the lock file of this program.
func EmbeddedLock() (Lock, error) { return ParseLock(lockText) }

// ParseLock reads a lock file.
func ParseLock(text string) (Lock, error) {
	var l Lock
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := l.parseLine(strings.Fields(line)); err != nil {
			return Lock{}, fmt.Errorf("line %d of the lock file: %w; make image-lock writes it anew", n, err)
		}
	}
	if l.Epoch.IsZero() || len(l.Packages) == 0 {
		return Lock{}, fmt.Errorf("the lock file has no epoch or no packages; make image-lock writes it anew")
	}
	return l, lines.Err()
}

func (l *Lock) parseLine(fields []string) error {
	switch {
	case len(fields) == 2 && fields[0] == epochKeyword:
		seconds, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil || seconds <= 0 {
			return fmt.Errorf("%q is no time in seconds", fields[1])
		}
		l.Epoch = time.Unix(seconds, 0).UTC()
		return nil
	case len(fields) != 6:
		return fmt.Errorf("it has %d columns, want 6", len(fields))
	}
	size, err := strconv.ParseInt(fields[3], 10, 64)
	if err != nil || size <= 0 {
		return fmt.Errorf("%q is no size", fields[3])
	}
	p := Package{Architecture: fields[0], Name: fields[1], Version: fields[2], Size: size, SHA256: fields[4], Path: fields[5]}
	if sum, err := hex.DecodeString(p.SHA256); err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("%q is no SHA-256 sum", p.SHA256)
	}
	if p.Path != path.Clean(p.Path) || strings.HasPrefix(p.Path, "/") || strings.HasPrefix(p.Path, "../") {
		return fmt.Errorf("%q is no path below the root of a mirror", p.Path)
	}
	l.Packages = append(l.Packages, p)
	return nil
}

// String returns the text of the lock file, which is the same for every order of the packages.
func (l Lock) String() string {
	packages := slices.Clone(l.Packages)
	slices.SortFunc(packages, func(a, b Package) int {
		return strings.Compare(a.Architecture+" "+a.Name, b.Architecture+" "+b.Name)
	})
	var text strings.Builder
	text.WriteString(lockHeader)
	fmt.Fprintf(&text, "%s %d\n%s", epochKeyword, l.Epoch.Unix(), lockColumns)
	for _, p := range packages {
		fmt.Fprintf(&text, "%s %s %s %d %s %s\n", p.Architecture, p.Name, p.Version, p.Size, p.SHA256, p.Path)
	}
	return text.String()
}

// For returns the packages of an architecture. Errors: if there are none.
func (l Lock) For(architecture string) ([]Package, error) {
	packages := slices.DeleteFunc(slices.Clone(l.Packages), func(p Package) bool { return p.Architecture != architecture })
	if len(packages) == 0 {
		return nil, fmt.Errorf("there is no image for the architecture %s: agents run on %s", architecture, strings.Join(Architectures, " and "))
	}
	return packages, nil
}

// digest returns a name for what the lock file says of one architecture.
func (l Lock) digest(architecture string) string {
	only := Lock{Epoch: l.Epoch, Packages: slices.DeleteFunc(slices.Clone(l.Packages), func(p Package) bool { return p.Architecture != architecture })}
	sum := sha256.Sum256([]byte(only.String()))
	return hex.EncodeToString(sum[:])
}
