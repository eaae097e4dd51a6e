// Package scan searches the files of a skill for dangerous content and reports it as
// named findings and a score. It never runs the files. The same files always give the
// same report. A high score says that nothing in the skill can do anything, not that
// nothing was found: see Reach.
package scan

import (
	"cmp"
	"maps"
	"slices"
)

// Severity is how dangerous a finding is.
type Severity string

// The severities, worst first.
const (
	Critical Severity = "critical" // no harmless skill does this
	High     Severity = "high"     // a person should review the skill before it is installed
	Medium   Severity = "medium"   // unusual, but also found in harmless skills
	Low      Severity = "low"      // worth knowing
	Info     Severity = "info"     // does not lower the score
)

// weight returns how many points the first finding of a rule takes from the score. One
// critical or two high findings bring a skill below the default threshold of 50.
func (s Severity) weight() int {
	switch s {
	case Critical:
		return 60
	case High:
		return 30
	case Medium:
		return 12
	case Low:
		return 4
	}
	return 0
}

// Finding is one match of a rule.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	File     string   `json:"file"`
	Line     int      `json:"line"` // from 1; 0: the whole file
	Message  string   `json:"message"`
	Excerpt  string   `json:"excerpt,omitempty"` // at most 160 characters; invisible ones are written as <U+XXXX>
}

// Report is the result of a scan.
type Report struct {
	Score    int       `json:"score"`   // 0 to 100; at most MaxScore for a skill that is not inert
	Verdict  string    `json:"verdict"` // in words
	Findings []Finding `json:"findings"`

	found int // the score by findings alone
	reach Reach
}

// Limits of a report. The score also counts the findings of a rule that are left out.
const (
	maxPerRule  = 8 // findings of one rule and severity
	maxFindings = 100
)

// Files scans the files of a skill, by path. The time is linear in their size, which the
// caller limits. Findings are ordered by severity, worst first, then by file and line.
func Files(files map[string][]byte) Report {
	s := newScanner()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		s.scanFile(name, files[name])
		s.addReach(name, files[name])
	}
	if s.work > maxWork {
		s.add("scan-incomplete", Critical, "", 0, "The skill has so much to check that the scan was stopped before the end.", "")
	}
	return newReport(s.list, score(s.list), worstReach(s.reach))
}

// With returns the report with further findings, such as those of a registry's verdict.
// Each lowers the score by its full weight.
func (r Report) With(more ...Finding) Report {
	found := r.found
	for _, f := range more {
		found -= f.Severity.weight()
	}
	return newReport(slices.Concat(r.Findings, more), max(0, found), r.reach)
}

// Uncertain returns the report of a scan by an earlier version, which did not limit the
// score of what runs code.
func (r Report) Uncertain() Report {
	r.Score, r.Verdict = min(r.Score, MaxScore), Code.verdict()
	return r
}

// Worst returns the n most severe findings, or fewer if there are not so many.
func (r Report) Worst(n int) []Finding { return r.Findings[:min(n, len(r.Findings))] }

// newReport sorts the findings. found is the score by findings alone.
func newReport(list []Finding, found int, reach Reach) Report {
	slices.SortStableFunc(list, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(b.Severity.weight(), a.Severity.weight()),
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Rule, b.Rule),
			cmp.Compare(a.Excerpt, b.Excerpt),
		)
	})
	r := Report{Score: found, Verdict: verdictInert, Findings: []Finding{}, found: found, reach: reach}
	if reach != "" {
		r.Score, r.Verdict = min(found, MaxScore), reach.verdict()
	}
	r.Findings = append(r.Findings, list[:min(maxFindings, len(list))]...)
	return r
}

// score returns 100 less the weight of each rule that matched. Each further match of a
// rule costs a quarter of its weight, up to double the weight: twenty plain-http links
// are worse than one, but not worse than a reverse shell.
func score(list []Finding) int {
	count := map[ruleSeverity]int{}
	for _, f := range list {
		count[ruleSeverity{f.Rule, f.Severity}]++
	}
	left := 100
	for k, n := range count {
		w := k.severity.weight()
		left -= w + w*min(n-1, 4)/4
	}
	return max(0, left)
}
