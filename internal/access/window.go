package access

// window is the times of the requests that count, oldest first, in a ring buffer. Times
// are nanoseconds since the start of the limiter, and never decrease.
type window struct {
	ring  []int64
	head  int
	count int
}

func newWindow(size int) *window { return &window{ring: make([]int64, size)} }

// expire removes the requests that are at least a Window old at t.
func (w *window) expire(t int64) {
	for w.count > 0 && t-w.ring[w.head] >= int64(Window) {
		w.head = w.index(1)
		w.count--
	}
}

// add counts a request. The ring must not be full.
func (w *window) add(t int64) {
	if w.count > 0 {
		t = max(t, w.at(w.count-1))
	}
	w.ring[w.index(w.count)] = t
	w.count++
}

// at returns the time of the i-th request, counted from the oldest.
func (w *window) at(i int) int64 { return w.ring[w.index(i)] }

func (w *window) oldest() int64 { return w.ring[w.head] }

// resize makes the ring hold size requests, or as many as it has if they are more.
func (w *window) resize(size int) {
	size = max(size, w.count)
	if size == len(w.ring) {
		return
	}
	ring := make([]int64, size)
	for i := range w.count {
		ring[i] = w.at(i)
	}
	w.ring, w.head = ring, 0
}

// index returns the position in the ring of the i-th request.
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
