// Package docs has the pages of the documentation, so that the server can show them.
package docs

import "embed"

// Pages are the pages as Markdown.
//
//go:embed *.md
var Pages embed.FS

// Pictures are what pages show: of the page NAME.md, in the directory NAME. Those of the dashboard are made by make
// pictures.
//
//go:embed dashboard/*.webp
var Pictures embed.FS
