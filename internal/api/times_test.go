package api

import (
	"testing"
	"time"

	"agento.host/agento/internal/fault"
)

func TestParseTime(t *testing.T) {
	day := time.Date(2026, 2, 10, 0, 0, 0, 0, time.UTC)
	two := day.Add(14 * time.Hour)
	for text, want := range map[string]time.Time{
		"":                             {},
		"2026":                         time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		"2026-02":                      time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC),
		"2026-02-10":                   day,
		"20260210":                     day,
		"2026-041":                     day,
		"2026041":                      day,
		"2026-W07-2":                   day,
		"2026W072":                     day,
		"2026-W07":                     day.AddDate(0, 0, -1),
		"2026-W53-7":                   time.Date(2027, 1, 3, 0, 0, 0, 0, time.UTC),
		"2026-02-10T14":                two,
		"2026-02-10T14:00":             two,
		"2026-02-10T14:00:00":          two,
		"2026-02-10T14:00Z":            two,
		"2026-02-10T14:00:00.000Z":     two,
		"2026-02-10t14:00:00z":         two,
		"2026-02-10T14:00:00,5Z":       two.Add(500 * time.Millisecond),
		"2026-02-10T14:00:00.1234567Z": two.Add(123456700),
		"2026-02-10T15:00:00+01:00":    two,
		"2026-02-10T15:00+01":          two,
		"2026-02-10T15:00:00+0100":     two,
		"20260210T140000Z":             two,
		"20260210T1400":                two,
		"20260210T150000.5+0100":       two.Add(500 * time.Millisecond),
		"2026-W07-2T14:00Z":            two,
		"2026-041T14:00Z":              two,
		"2026-02-09T24:00:00Z":         day,
		"20260209T2400":                day,
	} {
		if got, err := parseTime("since", text); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"yesterday", "1739190000", "17391900000", "2026-13-01", "2026-02-30", "2026-2-1", "2025-366", "2025-W53-1", "2026-W00-1", "2026-W07-8",
		"2026-02-10T25:00", "2026-02-10T14:60", "2026-02-10T24:01", "2026-02-10T", "2026-02-10T14:00:00 01:00", "2026-02-10Z", "10.02.2026", "02/10/2026", " 2026-02-10", "-1",
	} {
		if got, err := parseTime("since", text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
}
