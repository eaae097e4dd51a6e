package dashboard

import "strconv"

// pager is a page of a list. The partial template "pager" shows it.
type pager struct {
	Page, Size, Total int // Page counts from 1
}

// page returns the page that the address names, of a list with size rows on each.
func (v *visit) page(size int) pager {
	n, err := strconv.Atoi(v.Query("page"))
	if err != nil {
		n = 1
	}
	return pager{Page: max(n, 1), Size: size}
}

// Offset is how many rows are before the page.
func (p pager) Offset() int { return (p.Page - 1) * p.Size }

// From and To are the numbers of the first and the last row.
func (p pager) From() int { return min(p.Offset()+1, p.Total) }

// To is the number of the last row.
func (p pager) To() int { return min(p.Offset()+p.Size, p.Total) }

// Previous and Next are the numbers of the pages around this one; empty: there is none.
func (p pager) Previous() string {
	if p.Page <= 1 {
		return ""
	}
	return strconv.Itoa(p.Page - 1)
}

// Next is the number of the next page; empty: there is none.
func (p pager) Next() string {
	if p.To() >= p.Total {
		return ""
	}
	return strconv.Itoa(p.Page + 1)
}
