package access

// window is the times of the requests that still count, oldest first, in a ring.
// Times are nanoseconds since its owner's start, and never go back.
type window struct {
	ring  []int64
	head  int
	count int
}

func newWindow(size int) *window { return &window{ring: make([]int64, size)} }

// leave drops the requests that are a Window old at t.
func (w *window) leave(t int64) {
	for w.count > 0 && t-w.ring[w.head] >= int64(Window) {
		w.head = w.place(1)
		w.count--
	}
}

// add counts a request. There must be room.
func (w *window) add(t int64) {
	if w.count > 0 {
		t = max(t, w.at(w.count-1))
	}
	w.ring[w.place(w.count)] = t
	w.count++
}

// at is the time of the i-th request from the oldest.
func (w *window) at(i int) int64 { return w.ring[w.place(i)] }

func (w *window) oldest() int64 { return w.ring[w.head] }

// fit makes the ring as large as size, but never too small for what it holds.
func (w *window) fit(size int) {
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

func (w *window) place(i int) int {
	i += w.head
	if i >= len(w.ring) {
		i -= len(w.ring)
	}
	return i
}

// forgetIdle drops the windows in which nothing counts at t.
func forgetIdle[K comparable](windows map[K]*window, t int64) {
	for k, w := range windows {
		if w.leave(t); w.count == 0 {
			delete(windows, k)
		}
	}
}
