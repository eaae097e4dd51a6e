package access

// window is the requests that count, oldest first, in a ring buffer. An entry is the requests
// of one time, or of a short period, whose last one is its time. Times are nanoseconds since
// the start of the limiter, and never decrease.
type window struct {
	ring   []entry
	period int64 // the length of the periods whose requests share an entry; 0: each request has its own
	head   int
	used   int // entries
	count  int // requests
}

// entry is n requests. They expire with the last of them, so that no Window has more requests
// than the limit.
type entry struct {
	last int64
	n    int32
}

const (
	// maxExact is the highest limit whose requests have entries of their own.
	maxExact = 1000
	// maxEntries bounds the memory of a window, to 16 KB: with higher limits, requests in
	// the same one of 1,000 parts of a Window share an entry, and so count up to 60 ms
	// longer. A Window touches one part more, and one more is free.
	maxEntries    = sharedPeriods + 2
	sharedPeriods = 1000
)

func newWindow(limit int) *window {
	w := &window{}
	w.resize(limit)
	return w
}

// expire removes the requests that are at least a Window old at t.
func (w *window) expire(t int64) {
	for w.used > 0 && t-w.ring[w.head].last >= int64(Window) {
		w.count -= int(w.ring[w.head].n)
		w.head = w.index(1)
		w.used--
	}
}

// add counts a request. There must be fewer than the limit.
func (w *window) add(t int64) {
	w.count++
	if w.used > 0 {
		last := &w.ring[w.index(w.used-1)]
		t = max(t, last.last)
		if w.used == len(w.ring) || w.period > 0 && t/w.period == last.last/w.period {
			last.last = t
			last.n++
			return
		}
	}
	w.ring[w.index(w.used)] = entry{last: t, n: 1}
	w.used++
}

// at returns when the i-th request expires, less a Window; i counts from the oldest.
func (w *window) at(i int) int64 {
	for e := range w.used {
		at := w.ring[w.index(e)]
		if i -= int(at.n); i < 0 {
			return at.last
		}
	}
	return 0 // there is no such request
}

func (w *window) oldest() int64 { return w.ring[w.head].last }

// resize makes room for limit requests, or as many as there are if they are more.
func (w *window) resize(limit int) {
	size := max(limit, w.used)
	w.period = 0
	if limit > maxExact {
		size, w.period = max(maxEntries, w.used), int64(Window)/sharedPeriods
	}
	if size == len(w.ring) {
		return
	}
	ring := make([]entry, size)
	for i := range w.used {
		ring[i] = w.ring[w.index(i)]
	}
	w.ring, w.head = ring, 0
}

// index returns the position in the ring of the i-th entry.
func (w *window) index(i int) int {
	i += w.head
	if i >= len(w.ring) {
		i -= len(w.ring)
	}
	return i
}

// removeIdle removes the windows in which nothing counts at t.
func removeIdle[K comparable](windows map[K]*window, t int64) {
	for k, w := range windows {
		if w.expire(t); w.count == 0 {
			delete(windows, k)
		}
	}
}
