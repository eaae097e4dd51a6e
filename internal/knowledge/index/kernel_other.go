//go:build !amd64

package index

// kernels lists the kernels that this processor can run.
func kernels() []kernel { return []kernel{portable} }
