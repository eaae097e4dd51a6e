package dashboard

import (
	"crypto/rand"
	"sync"
	"time"
)

// What a shelf keeps. Who needs something later does it again: chooses the file once more, or
// does without the undo.
const (
	shelfTime     = 15 * time.Minute
	shelfOfPerson = 48 << 20 // bytes
	shelfOfAll    = 256 << 20
)

// shelf keeps for a few minutes what a person may need again: files that were checked and not
// added yet, and texts that were deleted. It is in the memory of this server.
type shelf struct {
	mu    sync.Mutex
	items map[string]shelved // guarded by mu
}

type shelved struct {
	owner string // person and account
	what  any
	bytes int
	until time.Time
}

func shelfOwner(v *visit) string { return v.Email + " " + v.Account }

// put keeps something of so many bytes and returns its name, or "" if there is no room. The
// oldest things of a person make room for new ones.
func (s *shelf) put(v *visit, what any, bytes int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.items == nil {
		s.items = map[string]shelved{}
	}
	now, owner := time.Now(), shelfOwner(v)
	for name, i := range s.items {
		if now.After(i.until) {
			delete(s.items, name)
		}
	}
	for own := bytes; ; {
		all, oldest := bytes, ""
		own = bytes
		for name, i := range s.items {
			all += i.bytes
			if i.owner != owner {
				continue
			}
			if own += i.bytes; oldest == "" || i.until.Before(s.items[oldest].until) {
				oldest = name
			}
		}
		if own <= shelfOfPerson && all <= shelfOfAll {
			break
		}
		if oldest == "" {
			return ""
		}
		delete(s.items, oldest)
	}
	name := rand.Text()
	s.items[name] = shelved{owner, what, bytes, now.Add(shelfTime)}
	return name
}

// onShelf returns what a person has put on the shelf under a name.
func onShelf[T any](s *shelf, v *visit, name string) (what T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.items[name]
	if !ok || i.owner != shelfOwner(v) || time.Now().After(i.until) {
		return what, false
	}
	what, ok = i.what.(T)
	return what, ok
}

// offShelf removes what is kept under a name.
func (s *shelf) offShelf(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.items, name)
}
