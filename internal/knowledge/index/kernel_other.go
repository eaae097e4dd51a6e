//go:build !amd64

package index

// kernels lists what this processor can run, fastest first.
func kernels() []kernel { return []kernel{portable} }
