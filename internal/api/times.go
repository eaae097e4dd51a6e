package api

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"agento.host/agento/internal/fault"
)

// parseTime parses a date, or a date and time, of ISO 8601: a calendar, ordinal or week date,
// in the extended or the basic format, to the year at least. What is left out is the
// beginning, and a time without an offset is in UTC. An empty text is the zero time.
//
// No library: relvacode/iso8601 takes 20260210 for a year, and knows no weeks.
// Faults: Invalid.
func parseTime(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, ok := parseISO8601(text); ok {
		return t, nil
	}
	return time.Time{}, fault.Fields{field: "must be an ISO 8601 date or time such as 2026-02-10 or 2026-02-10T14:00:00+01:00 (in a URL, write + as %2B)"}.Err()
}

func parseISO8601(text string) (time.Time, bool) {
	text = strings.ToUpper(text) // RFC 3339 allows t and z
	midnight := endOfDay.FindStringSubmatch(text)
	if midnight != nil {
		text = midnight[1] + "T00" + midnight[2]
	}
	text, ok := calendarDate(text)
	if !ok {
		return time.Time{}, false
	}
	for _, layout := range layouts() {
		if t, err := time.Parse(layout, text); err == nil {
			if midnight != nil {
				t = t.AddDate(0, 0, 1)
			}
			return t, true
		}
	}
	return time.Time{}, false
}

// layouts returns the layouts of calendar and ordinal dates. Package time takes a fraction
// after the seconds of each of them, with a full stop or a comma.
var layouts = sync.OnceValue(func() []string {
	all := []string{"2006", "2006-01", "2006-01-02", "20060102", "2006-002", "2006002"}
	for _, format := range []struct{ dates, times, zones []string }{
		{[]string{"2006-01-02", "2006-002"}, []string{"15:04:05", "15:04", "15"}, []string{"", "Z07:00", "Z07", "Z0700"}}, // the last is common, although it mixes the formats
		{[]string{"20060102", "2006002"}, []string{"150405", "1504", "15"}, []string{"", "Z0700", "Z07", "Z07:00"}},
	} {
		for _, date := range format.dates {
			for _, clock := range format.times {
				for _, zone := range format.zones {
					all = append(all, date+"T"+clock+zone)
				}
			}
		}
	}
	return all
})

var (
	weekDate = regexp.MustCompile(`^(\d{4})(?:-W(\d\d)(?:-([1-7]))?|W(\d\d)([1-7])?)(T.*)?$`)
	endOfDay = regexp.MustCompile(`^(.+)T24((?::?00){0,2}(?:[.,]0+)?(?:Z|[+-][\d:]+)?)$`)
)

// calendarDate replaces the week date at the beginning of a text by a calendar date, which
// package time can parse. ok is false if the year has no such week.
func calendarDate(text string) (_ string, ok bool) {
	m := weekDate.FindStringSubmatch(text)
	if m == nil {
		return text, true
	}
	year, _ := strconv.Atoi(m[1]) // digits only
	week, _ := strconv.Atoi(m[2] + m[4])
	day, layout := m[3]+m[5], "2006-01-02"
	if m[4] != "" {
		layout = "20060102"
	}
	weekday := 1
	if day != "" {
		weekday, _ = strconv.Atoi(day)
	}
	inFirstWeek := time.Date(year, time.January, 4, 0, 0, 0, 0, time.UTC)
	monday := inFirstWeek.AddDate(0, 0, -(int(inFirstWeek.Weekday())+6)%7)
	date := monday.AddDate(0, 0, 7*(week-1)+weekday-1)
	if y, w := date.ISOWeek(); y != year || w != week {
		return "", false
	}
	return date.Format(layout) + m[6], true
}
