// Package index finds, among many vectors of length 1, those with the largest
// cosine to a query vector. It is exact, and reads a quarter of the memory that
// the exact vectors would take.
//
// A Matrix stores each vector as one signed byte per dimension and a scale. The
// error that this rounding adds to an inner product is bounded (bounds.go). A scan
// of the bytes therefore excludes nearly every row with certainty; the few rows
// that remain are compared by their exact vectors, which the caller reads. The
// result is always the same as that of a scan over the exact vectors.
package index
