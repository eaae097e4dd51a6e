package event

import (
	"context"

	"agento.host/agento/internal/database"
)

// Last returns the number of the newest event; 0 if there is none.
func Last(ctx context.Context, q database.Reader) (int64, error) {
	return database.One(ctx, q, database.Scalar[int64], `SELECT coalesce(max(seq), 0) FROM events`)
}

// Newer returns the number of the newest event of each topic that has one after an event.
func Newer(ctx context.Context, q database.Reader, after int64) (map[Topic]int64, error) {
	type last struct {
		topic Topic
		seq   int64
	}
	all, err := database.All(ctx, q, func(r database.Row) (l last, err error) { return l, r.Scan(&l.topic, &l.seq) },
		`SELECT topic, max(seq) FROM events WHERE seq > $1 GROUP BY topic`, after)
	newer := make(map[Topic]int64, len(all))
	for _, l := range all {
		newer[l.topic] = l.seq
	}
	return newer, err
}
