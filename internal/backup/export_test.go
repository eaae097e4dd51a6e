package backup

// Dropped returns the ids that the rules do not keep.
func Dropped(k Keep, ids []string) []string { return k.dropped(ids) }
