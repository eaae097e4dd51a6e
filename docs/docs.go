// Package docs has the pages of the documentation, so that the server can show them.
package docs

import "embed"

// Pages are the pages as Markdown.
//
//go:embed *.md
var Pages embed.FS
