package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

// User is who everything in a container runs as: the user and its group.
const User = 10001

// Home is the agent's directory in the image. A volume goes there.
const Home = "/home/agent"

// RunDir is the directory that a container mounts a file system in memory at, for secrets.
const RunDir = "/run/agento"

// searchPath is the PATH in the image.
const searchPath = "/usr/local/bin:/usr/bin:/bin"

// base is a tree of Debian packages. Their files are in one temporary file, one after another.
type base struct {
	*tree
	spool *os.File
	end   int64 // of the spool
}

// newBase unpacks packages, and adds what their maintainer scripts would. The caller closes it.
func newBase(ctx context.Context, m mirror, packages []Package) (*base, error) {
	spool, err := os.CreateTemp(m.dir, tempPrefix)
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w", err)
	}
	b := &base{tree: newTree(), spool: spool}
	for _, p := range packages {
		if err := b.unpack(ctx, m.file(p), p); err != nil {
			return nil, errors.Join(fmt.Errorf("unpack the package %s %s: %w", p.Name, p.Version, err), b.close())
		}
	}
	if err := b.complete(); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *base) close() error { return errors.Join(b.spool.Close(), os.Remove(b.spool.Name())) }

func (b *base) unpack(ctx context.Context, name string, p Package) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	return readDeb(bufio.NewReaderSize(file, 1<<16), func(kind string, files *tar.Reader) error {
		switch kind {
		case "control":
			return eachFile(files, func(name string, h *tar.Header) error { return b.addControl(name, p, files) })
		case "data":
			return eachFile(files, func(name string, h *tar.Header) error { return b.addFile(mergeUsr(name), h, files) })
		}
		return nil
	})
}

// addControl keeps the description of a package where scanners for vulnerable packages look.
func (b *base) addControl(name string, p Package, r io.Reader) error {
	if name != "control" {
		return nil
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return b.add("var/lib/dpkg/status.d/"+p.Name, regular(text, 0o644))
}

func (b *base) addFile(name string, h *tar.Header, r io.Reader) error {
	if isLeftOut(name) {
		return nil
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return b.add(name, directory(h.Mode&0o1777))
	case tar.TypeSymlink:
		return b.add(name, symlink(h.Linkname))
	case tar.TypeLink:
		target, ok := b.entries[mergeUsr(cleanPath(h.Linkname))]
		if !ok {
			return fmt.Errorf("its hard link leads to %s, which is not there", h.Linkname)
		}
		return b.add(name, target)
	case tar.TypeReg:
		begin := b.end
		n, err := io.Copy(io.NewOffsetWriter(b.spool, begin), r)
		if err != nil {
			return err
		}
		b.end += n
		// Without the bits that give a program the rights of its owner.
		return b.add(name, &entry{kind: tar.TypeReg, mode: h.Mode & 0o777, size: n, open: func() (io.ReadCloser, error) {
			return io.NopCloser(io.NewSectionReader(b.spool, begin, n)), nil
		}})
	}
	return fmt.Errorf("it has the unknown type %q", h.Typeflag)
}

// merged are the directories of the root that are links to those in /usr. Packages of Debian
// 12 still have files in both.
var merged = []string{"bin", "lib", "lib32", "lib64", "libx32", "sbin"}

func mergeUsr(name string) string {
	if first, _, _ := strings.Cut(name, "/"); slices.Contains(merged, first) {
		return "usr/" + name
	}
	return name
}

// leftOut are directories that no agent needs.
var leftOut = []string{
	"etc/apt", "etc/bash_completion.d", "etc/cron.d", "etc/cron.daily", "etc/init.d", "etc/rc2.d", "etc/systemd", "usr/lib/systemd", "usr/lib/udev", "usr/share/applications", "usr/share/bash-completion",
	"usr/share/bug", "usr/share/doc-base", "usr/share/fish", "usr/share/gitweb", "usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/man", "usr/share/menu", "usr/share/perl5",
	"usr/share/pixmaps", "usr/share/zoneinfo/posix", "usr/share/zoneinfo/right", "usr/share/zsh", "var/backups", "var/cache/apt",
}

// isLeftOut reports whether a file of a package is not in the image. Licenses are.
func isLeftOut(name string) bool {
	for dir := name; dir != "."; dir = path.Dir(dir) {
		if slices.Contains(leftOut, dir) {
			return true
		}
	}
	if rest, isDoc := strings.CutPrefix(name, "usr/share/doc/"); isDoc {
		_, file, isInside := strings.Cut(rest, "/")
		return isInside && file != "copyright"
	}
	return strings.Contains(name, "/__pycache__") || strings.HasSuffix(name, ".pyc")
}

const (
	bundle       = "etc/ssl/certs/ca-certificates.crt"
	certificates = "usr/share/ca-certificates/"
)

// complete adds what no package has as a file.
func (b *base) complete() error {
	authorities, err := b.authorities()
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"etc/passwd":        fmt.Sprintf("root:x:0:0:root:/root:/usr/sbin/nologin\nagent:x:%[1]d:%[1]d:agent:%[2]s:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n", User, Home),
		"etc/group":         fmt.Sprintf("root:x:0:\nagent:x:%d:\nnogroup:x:65534:\n", User),
		"etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
		"etc/hosts":         "127.0.0.1 localhost\n::1 localhost\n",
		"etc/hostname":      "agent\n", "etc/resolv.conf": "", // engines mount theirs over these
		bundle: string(authorities),
	} {
		b.set(name, regular([]byte(text), 0o644))
	}
	for name, to := range map[string]string{
		"usr/bin/awk": "mawk", "usr/bin/which": "which.debianutils",
		"usr/lib/ssl/cert.pem": "/" + bundle, // so that OpenSSL needs no links by hashes
		"etc/mtab":             "/proc/self/mounts",
	} {
		b.set(name, symlink(to))
	}
	for _, dir := range []string{"usr/local/bin", "usr/local/lib", "opt", "var/tmp", "dev", "proc", "sys"} {
		b.set(dir, directory(0o755))
	}
	b.set("tmp", directory(0o1777))
	b.set("var/tmp", directory(0o1777))
	for _, dir := range []string{Home, RunDir} {
		b.set(cleanPath(dir), &entry{kind: tar.TypeDir, mode: 0o700, uid: User, gid: User})
	}
	b.addParents()
	for _, name := range merged {
		if _, exists := b.entries["usr/"+name]; exists {
			b.set(name, symlink("usr/"+name))
		}
	}
	return nil
}

// authorities returns the certificates of all authorities that Debian trusts, in one file.
func (b *base) authorities() ([]byte, error) {
	var all bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(b.entries)) {
		if !strings.HasPrefix(name, certificates) || !strings.HasSuffix(name, ".crt") {
			continue
		}
		text, err := b.entries[name].read()
		if err != nil {
			return nil, fmt.Errorf("read /%s: %w", name, err)
		}
		all.Write(bytes.TrimSpace(text))
		all.WriteByte('\n')
	}
	return all.Bytes(), nil
}
