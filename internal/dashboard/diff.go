package dashboard

import "strings"

// diffLine is a line of a difference.
type diffLine struct {
	Kind string // add, remove, same, or gap: lines that are the same were left out
	Text string
}

// Texts of more lines than these are compared as a whole, so that a page takes bounded time.
const (
	maxDiffLines = 2000
	diffContext  = 3 // lines that are shown around a change
)

// normalizeLines returns a text as it was before a browser sent it: forms have lines that end
// with CR LF.
func normalizeLines(text string) string { return strings.ReplaceAll(text, "\r\n", "\n") }

// diff returns what has to change in one text to get another one, by lines; empty if they are
// equal.
func diff(from, to string) []diffLine {
	if from == to {
		return nil
	}
	a, b := strings.Split(from, "\n"), strings.Split(to, "\n")
	start := 0
	for start < len(a) && start < len(b) && a[start] == b[start] {
		start++
	}
	end := 0
	for end < len(a)-start && end < len(b)-start && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	var all []diffLine
	for _, line := range a[:start] {
		all = append(all, diffLine{"same", line})
	}
	all = append(all, diffMiddle(a[start:len(a)-end], b[start:len(b)-end])...)
	for _, line := range a[len(a)-end:] {
		all = append(all, diffLine{"same", line})
	}
	return shorten(all)
}

// diffMiddle compares lines by their longest common subsequence.
func diffMiddle(a, b []string) []diffLine {
	var out []diffLine
	if len(a) > maxDiffLines || len(b) > maxDiffLines {
		for _, line := range a {
			out = append(out, diffLine{"remove", line})
		}
		for _, line := range b {
			out = append(out, diffLine{"add", line})
		}
		return out
	}
	common := make([][]int16, len(a)+1) // of a[i:] and b[j:]
	for i := range common {
		common[i] = make([]int16, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, diffLine{"same", a[i]})
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			out = append(out, diffLine{"remove", a[i]})
			i++
		default:
			out = append(out, diffLine{"add", b[j]})
			j++
		}
	}
	return out
}

// shorten leaves out lines that are the same and far from every change.
func shorten(all []diffLine) []diffLine {
	near := make([]bool, len(all))
	for i, line := range all {
		if line.Kind == "same" {
			continue
		}
		for k := max(0, i-diffContext); k <= min(len(all)-1, i+diffContext); k++ {
			near[k] = true
		}
	}
	var out []diffLine
	for i, line := range all {
		switch {
		case near[i]:
			out = append(out, line)
		case i == 0 || near[i-1]:
			out = append(out, diffLine{"gap", "…"})
		}
	}
	return out
}
