package image

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// readDeb calls each for the archives of a package: "control", which describes it, and
// "data", its files. A package is an ar archive of compressed tar archives.
func readDeb(r io.Reader, each func(name string, files *tar.Reader) error) error {
	magic := make([]byte, 8)
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != "!<arch>\n" {
		return errors.New("it is no Debian package")
	}
	for {
		header := make([]byte, 60)
		if _, err := io.ReadFull(r, header); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a member's header: %w", err)
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(header[48:58])), 10, 64)
		if err != nil || size < 0 {
			return errors.New("it has a member without a size")
		}
		member := io.LimitReader(r, size)
		name := strings.TrimSuffix(strings.TrimSpace(string(header[:16])), "/")
		if kind, compression, isTar := strings.Cut(name, ".tar"); isTar {
			if err := readMember(member, compression, func(files *tar.Reader) error { return each(kind, files) }); err != nil {
				return fmt.Errorf("read %s: %w", name, err)
			}
		}
		if _, err := io.Copy(io.Discard, member); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if size%2 == 1 { // members begin at even offsets
			if _, err := io.CopyN(io.Discard, r, 1); err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read %s: %w", name, err)
			}
		}
	}
}

func readMember(r io.Reader, compression string, read func(*tar.Reader) error) error {
	switch compression {
	case "":
	case ".xz":
		plain, err := xz.NewReader(r)
		if err != nil {
			return err
		}
		r = plain
	case ".gz":
		plain, err := gzip.NewReader(r)
		if err != nil {
			return err
		}
		r = plain
	case ".zst":
		plain, err := zstd.NewReader(r)
		if err != nil {
			return err
		}
		defer plain.Close()
		r = plain
	default:
		return fmt.Errorf("the compression %s is unknown", compression)
	}
	return read(tar.NewReader(r))
}

// eachFile calls do for the entries of a tar archive, with a path such as "usr/bin/env".
func eachFile(files *tar.Reader, do func(name string, header *tar.Header) error) error {
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := cleanPath(header.Name)
		if name == "" {
			continue // the root itself
		}
		if name == ".." || strings.HasPrefix(name, "../") {
			return fmt.Errorf("%q leads out of the package", header.Name)
		}
		if err := do(name, header); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// cleanPath returns a path below the root without "./" and slashes at its ends; the root is "".
func cleanPath(name string) string {
	name = path.Clean(strings.TrimLeft(name, "/"))
	if name == "." {
		return ""
	}
	return name
}
