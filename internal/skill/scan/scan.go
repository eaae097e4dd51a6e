// Package scan reads a skill's files and says what in them is dangerous, as
// named findings and a score. It reads, and never runs, what it is given; the
// same files always get the same report.
package scan

import (
	"cmp"
	"maps"
	"slices"
)

// Severity says how much a finding matters.
type Severity string

// The severities, worst first.
const (
	Critical Severity = "critical" // no honest skill does this
	High     Severity = "high"     // a person should look before it is installed
	Medium   Severity = "medium"   // unusual, with honest uses
	Low      Severity = "low"      // worth knowing
	Info     Severity = "info"     // costs nothing
)

// weight is what the first finding of a rule takes from the score. One critical
// or two high findings bring a clean skill below the default threshold of 50.
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

func (s Severity) rank() int { return -s.weight() }

// Finding is one thing the scanner noticed.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	File     string   `json:"file"`
	Line     int      `json:"line"` // from 1; 0: the whole file
	Message  string   `json:"message"`
	Excerpt  string   `json:"excerpt,omitempty"` // at most 160 characters; what is invisible is spelled out
}

// Report is the outcome of a scan.
type Report struct {
	Score    int       `json:"score"` // 0 (refuse) to 100 (nothing found)
	Findings []Finding `json:"findings"`
}

// Bounds of a report; the score counts what they leave out.
const (
	perRule     = 8
	maxFindings = 100
)

// Files scans a skill. Time grows linearly with the size of the files, which
// the caller bounds; findings come worst first, then by file and line.
func Files(files map[string][]byte) Report {
	all := newFindings()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		all.file(name, files[name])
	}
	if all.work > maxWork {
		all.add("scan-incomplete", Critical, "", 0, "It is so large and dense that it was not scanned to its end.", "")
	}
	return all.report()
}

// With adds findings of another origin, such as a registry's verdict, and
// scores again.
func (r Report) With(more ...Finding) Report {
	all := findings{list: slices.Concat(r.Findings, more)}
	score := r.Score
	for _, f := range more {
		score -= f.Severity.weight()
	}
	out := all.report()
	out.Score = max(0, score)
	return out
}

// Worst returns the n findings that matter most.
func (r Report) Worst(n int) []Finding { return r.Findings[:min(n, len(r.Findings))] }

func (fs *findings) report() Report {
	slices.SortStableFunc(fs.list, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(a.Severity.rank(), b.Severity.rank()),
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Rule, b.Rule),
			cmp.Compare(a.Excerpt, b.Excerpt),
		)
	})
	r := Report{Score: score(fs.list), Findings: []Finding{}}
	r.Findings = append(r.Findings, fs.list[:min(maxFindings, len(fs.list))]...)
	return r
}

// score takes a rule's weight once, and a quarter more for each repetition, up
// to double: twenty plain-http links are worse than one, but no worse than a
// reverse shell.
func score(list []Finding) int {
	count := map[counted]int{}
	for _, f := range list {
		count[counted{f.Rule, f.Severity}]++
	}
	left := 100
	for k, n := range count {
		w := k.severity.weight()
		left -= w + w*min(n-1, 4)/4
	}
	return max(0, left)
}
