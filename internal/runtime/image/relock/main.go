// Command relock writes the lock file of the image's base layer anew: it lets apt resolve the
// packages of Debian 12, with its security updates, for each architecture. apt checks the
// signatures of the archive; nothing of the machine is changed. make image-lock runs it.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"agento.host/agento/internal/runtime/image"
)

const (
	mirror  = "http://deb.debian.org/"
	keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

// wanted are the programs of agents' tools, and what libraries of other programs need.
var wanted = strings.Fields(`base-files bash bzip2 ca-certificates coreutils curl dash debianutils diffutils findutils git grep gzip hostname jq
	libc-bin libgcc-s1 libstdc++6 mawk netbase patch procps python3 ripgrep sed tar tzdata unzip util-linux xz-utils`)

// absent are packages that others depend on only for their maintainer scripts, which do not
// run, or for parts that agents do not need (git's in Perl). apt is told that they are installed.
var absent = strings.Fields(`debconf dpkg init-system-helpers liberror-perl perl perl-base usr-is-merged usrmerge`)

// dropped are left out too; they are needed in one version, so apt must choose them.
var dropped = strings.Fields(`git-man libdebconfclient0 util-linux-extra readline-common`)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: relock FILE")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "relock:", err)
		os.Exit(1)
	}
}

// run replaces the lock file if the packages have changed.
func run(ctx context.Context, file string) error {
	if _, err := os.Stat(keyring); err != nil {
		return errors.New("the package debian-archive-keyring is missing: apt checks the archive's signatures with it")
	}
	var fresh image.Lock
	for _, architecture := range image.Architectures {
		packages, date, err := resolve(ctx, architecture)
		if err != nil {
			return fmt.Errorf("resolve the packages of %s: %w", architecture, err)
		}
		fresh.Packages = append(fresh.Packages, packages...)
		if date.After(fresh.Epoch) {
			fresh.Epoch = date
		}
	}
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if old, err := image.ParseLock(string(text)); err == nil {
		kept := fresh
		kept.Epoch = old.Epoch
		if kept.String() == old.String() {
			fmt.Println("the lock file is up to date")
			return nil
		}
	}
	return os.WriteFile(file, []byte(fresh.String()), 0o644)
}

// resolve returns the packages of one architecture, and when the archive was last changed.
func resolve(ctx context.Context, architecture string) ([]image.Package, time.Time, error) {
	dir, err := os.MkdirTemp("", "agento-relock-")
	if err != nil {
		return nil, time.Time{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	apt, err := newApt(dir, architecture)
	if err != nil {
		return nil, time.Time{}, err
	}
	if _, err := apt.run(ctx, "update", "-qq"); err != nil {
		return nil, time.Time{}, err
	}
	out, err := apt.run(ctx, append([]string{"install", "-qq", "-y", "--print-uris"}, wanted...)...)
	if err != nil {
		return nil, time.Time{}, err
	}
	packages, err := parseURIs(out, architecture)
	if err != nil {
		return nil, time.Time{}, err
	}
	date, err := newestRelease(apt.lists)
	return packages, date, err
}

// apt runs apt-get with lists, a cache and a status of its own.
type apt struct {
	options []string
	lists   string
}

func newApt(dir, architecture string) (*apt, error) {
	a := &apt{lists: filepath.Join(dir, "lists")}
	source := "deb [signed-by=" + keyring + "] " + mirror
	files := map[string]string{
		"sources.list": source + "debian bookworm main\n" + source + "debian-security bookworm-security main\n",
		"status":       status(),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"lists/partial", "archives/partial", "parts"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return nil, err
		}
	}
	for _, o := range []string{
		"APT::Architecture=" + architecture, "APT::Architectures=" + architecture, "APT::Install-Recommends=false", "APT::Sandbox::User=root",
		"Acquire::ForceHash=SHA256", "Acquire::Languages=none", "Debug::NoLocking=1",
		"Dir::Etc::sourcelist=" + dir + "/sources.list", "Dir::Etc::sourceparts=" + dir + "/parts", "Dir::Etc::preferences=/dev/null", "Dir::Etc::preferencesparts=" + dir + "/parts",
		"Dir::State=" + dir, "Dir::State::lists=" + a.lists, "Dir::State::status=" + dir + "/status", "Dir::Cache=" + dir, "Dir::Cache::archives=" + dir + "/archives",
	} {
		a.options = append(a.options, "-o", o)
	}
	return a, nil
}

func (a *apt) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "apt-get", append(slices.Clone(a.options), args...)...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("apt-get %s: %w: %s", args[0], err, strings.TrimSpace(problems.String()))
	}
	return out.String(), nil
}

// status is dpkg's list of installed packages: those that are absent from the image.
func status() string {
	var text strings.Builder
	for _, name := range absent {
		fmt.Fprintf(&text, "Package: %s\nStatus: install ok installed\nMaintainer: none\nArchitecture: all\nVersion: 999\nDescription: absent\n\n", name)
	}
	return text.String()
}

// uriLine is a line of apt-get --print-uris: 'URI' file size algorithm:sum.
var uriLine = regexp.MustCompile(`(?m)^'([^']+)' ([^ _]+)_([^ _]+)_[^ _]+\.deb (\d+) SHA256:([0-9a-f]{64})$`)

func parseURIs(out, architecture string) ([]image.Package, error) {
	var packages []image.Package
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "'") {
			continue
		}
		m := uriLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			return nil, fmt.Errorf("apt-get printed a line that is no package with its SHA-256 sum: %s", line)
		}
		at, inMirror := strings.CutPrefix(m[1], mirror)
		where, errWhere := url.PathUnescape(at)
		version, errVersion := url.PathUnescape(m[3])
		size, errSize := strconv.ParseInt(m[4], 10, 64)
		if err := errors.Join(errWhere, errVersion, errSize); err != nil || !inMirror {
			return nil, fmt.Errorf("apt-get printed %s: %w", line, err)
		}
		if slices.Contains(dropped, m[2]) {
			continue
		}
		packages = append(packages, image.Package{Architecture: architecture, Name: m[2], Version: version, Size: size, SHA256: m[5], Path: where})
	}
	if len(packages) == 0 {
		return nil, errors.New("apt-get printed no package")
	}
	return packages, nil
}

// releaseDate is when an archive was last changed.
var releaseDate = regexp.MustCompile(`(?m)^Date: (.+)$`)

func newestRelease(lists string) (newest time.Time, err error) {
	files, err := filepath.Glob(filepath.Join(lists, "*_InRelease"))
	if err != nil {
		return time.Time{}, err
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return time.Time{}, err
		}
		m := releaseDate.FindSubmatch(text)
		if m == nil {
			return time.Time{}, fmt.Errorf("%s has no date", filepath.Base(name))
		}
		date, err := time.Parse(time.RFC1123, string(m[1]))
		if err != nil {
			return time.Time{}, fmt.Errorf("read the date of %s: %w", filepath.Base(name), err)
		}
		if date.After(newest) {
			newest = date
		}
	}
	if newest.IsZero() {
		return time.Time{}, errors.New("apt-get fetched no list of packages")
	}
	return newest, nil
}
