// Package catalog embeds the verified skills that come with agento. Each is a folder
// below skills/ with SKILL.md, manifest.yaml and helper files.
package catalog

import (
	"embed"
	"io/fs"
)

//go:embed skills
var files embed.FS

// Files returns a file system with one folder for each skill.
func Files() fs.FS {
	sub, err := fs.Sub(files, "skills")
	if err != nil {
		panic(err) // the path is a constant
	}
	return sub
}
