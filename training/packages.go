package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The packages with whose texts the model is trained, all of them in Debian main. The
// model is never trained with those that are held out: the evaluation set is made of
// them, and their licences allow to keep their texts in this repository.
var (
	dictionaries = []string{
		"wordnet-base", "dict-gcide", "dict-foldoc", "dict-jargon", "dict-freedict-deu-eng", "dict-freedict-jpn-eng", "dict-freedict-hun-eng",
		"dict-freedict-nld-eng", "dict-freedict-fra-eng", "dict-freedict-spa-eng", "dict-freedict-por-eng", "dict-freedict-eng-ces",
		"dict-freedict-eng-pol", "dict-freedict-eng-por", "dict-freedict-eng-nld", "dict-freedict-eng-fra", "dict-freedict-eng-spa",
		"dict-freedict-eng-swe", "unicode-cldr-core", "python3-pattern", "mediawiki",
	}
	manuals = []string{
		"aptitude-doc-en", "bash-doc", "bind9-doc", "claws-mail-doc", "debian-faq", "debian-handbook", "debian-policy",
		"debian-reference-en", "developers-reference", "evolution-common", "exim4-doc-html", "git-doc", "gnome-user-docs", "gnucash-docs",
		"gnumeric-doc", "installation-guide-amd64", "khelpcenter", "kmymoney-common", "libreoffice-help-en-us",
		"mailman3-doc", "nodejs-doc", "perl-doc", "postfix-doc", "postgresql-doc-15", "python-celery-doc",
		"python-django-doc", "python-sqlalchemy-doc", "python3.11-doc", "r-doc-html", "request-tracker5", "zsh-doc",
	}
	heldOut = []string{"sqlite3-doc", "apache2-doc", "borgbackup-doc", "varnish-doc"}
)

// fetch downloads and unpacks the packages that are not in dir yet. It installs nothing.
func fetch(ctx context.Context, dir string, names []string) error {
	debs := filepath.Join(dir, "debs")
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		root := filepath.Join(dir, "root", name)
		if _, err := os.Stat(root); err == nil {
			continue
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		found, err := filepath.Glob(filepath.Join(debs, name+"_*.deb"))
		if err != nil {
			return err
		}
		if len(found) == 0 {
			if _, err := runCommand(ctx, debs, "apt-get", "download", "-q", name); err != nil {
				return err
			}
			if found, err = filepath.Glob(filepath.Join(debs, name+"_*.deb")); err != nil || len(found) == 0 {
				return fmt.Errorf("download %s: no file was saved (%w)", name, err)
			}
		}
		// The package is unpacked into another directory and renamed, so that an
		// incomplete one is never read.
		part := root + ".part"
		if err := os.MkdirAll(part, 0o755); err != nil {
			return err
		}
		if _, err := runCommand(ctx, debs, "dpkg-deb", "-x", filepath.Base(found[0]), part); err != nil {
			return err
		}
		if err := os.Rename(part, root); err != nil {
			return err
		}
	}
	return saveDescriptions(ctx, filepath.Join(dir, "descriptions"))
}

// saveDescriptions saves the short and long descriptions of all packages that apt
// knows. It downloads them, because apt's own lists may not have the long ones.
func saveDescriptions(ctx context.Context, path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	lists := path + ".lists"
	if err := os.MkdirAll(filepath.Join(lists, "partial"), 0o755); err != nil {
		return err
	}
	if _, err := runCommand(ctx, ".", "apt-get", "-q", "-o", "Acquire::Languages=en", "-o", "Dir::State::Lists="+lists, "update"); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(lists, "*_Translation-en*"))
	if err != nil || len(found) == 0 {
		return fmt.Errorf("apt has no English descriptions (%w)", err)
	}
	var all []byte
	for _, name := range found {
		text, err := runCommand(ctx, ".", "/usr/lib/apt/apt-helper", "cat-file", name)
		if err != nil {
			return err
		}
		all = append(all, text...)
	}
	return os.WriteFile(path, all, 0o600)
}

func runCommand(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, stderr.String())
	}
	return out, nil
}
