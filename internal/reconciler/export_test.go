package reconciler

// LoopCount returns how many agents have a loop.
func (r *Reconciler) LoopCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.loops)
}

// BootCount returns how many gateways are booting.
func (r *Reconciler) BootCount() int {
	r.admission.mu.Lock()
	defer r.admission.mu.Unlock()
	return r.admission.booting
}
