package backup

import "time"

// Dropped returns the ids that the rules do not keep.
func Dropped(k Keep, ids []string) []string { return k.dropped(ids) }

// Started makes a service think that it was started at a time.
func Started(s *Service, at time.Time) { s.started = at }
