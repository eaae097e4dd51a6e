package budget

import (
	"log/slog"
	"sync"
	"time"
)

const (
	// logInterval is the least time between two log entries about one holder.
	logInterval = time.Minute
	// maxLogged is about how many holders the log entries tell apart.
	maxLogged = 1000
)

// refusalLog logs who is refused, each holder once in a logInterval, however often it is
// refused.
type refusalLog struct {
	log     *slog.Logger
	refused func(resource string) // may be nil

	mu      *sync.Mutex
	holders map[string]refusals // guarded by mu
}

type refusals struct {
	logged time.Time
	count  int // since then
}

func newRefusalLog(log *slog.Logger, refused func(resource string)) refusalLog {
	return refusalLog{log: log, refused: refused, mu: &sync.Mutex{}, holders: map[string]refusals{}}
}

// note counts a refusal and logs it if it is due.
func (l *refusalLog) note(message, resource, name string, used int64) {
	if l.refused != nil {
		l.refused(resource)
	}
	if l.log == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.holders[name]
	r.count++
	if now := time.Now(); now.Sub(r.logged) >= logInterval {
		l.log.Warn(message, "resource", resource, "holder", name, "used", used, "refused", r.count)
		r = refusals{logged: now}
	}
	if len(l.holders) >= maxLogged {
		clear(l.holders)
	}
	l.holders[name] = r
}
