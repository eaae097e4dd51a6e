package dashboard

import (
	"html/template"
	"slices"
)

// contentRoutes are the pages of what agents know and can do, and of what that costs.
func (s *Server) contentRoutes() []route {
	return slices.Concat(s.knowledgeRoutes(), s.skillRoutes(), s.swarmRoutes(), s.usageRoutes())
}

// contentFuncs are the functions of their templates.
func contentFuncs() template.FuncMap {
	return template.FuncMap{
		"count":    count,
		"metadata": metadataText,
		"cut":      func(text string, n int) string { short, _ := cutText(text, n); return short },
		"score":    scoreClass,
		"severity": severityText,
		"short":    shortDay,
	}
}
