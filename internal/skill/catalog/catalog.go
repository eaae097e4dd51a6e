// Package catalog holds the verified skills that come with agento: under skills/,
// a folder each, with SKILL.md, its helpers and manifest.yaml.
package catalog

import (
	"embed"
	"io/fs"
)

//go:embed skills
var files embed.FS

// Files returns the folders of the skills.
func Files() fs.FS {
	sub, err := fs.Sub(files, "skills")
	if err != nil {
		panic(err) // the path is a constant
	}
	return sub
}
