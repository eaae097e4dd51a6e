// Package index finds, among many vectors of length 1, those nearest to another,
// exactly, reading a quarter of the memory that exact vectors would take.
//
// A Matrix keeps each vector as one signed byte a dimension and a scale. What
// that rounding can change in an inner product is bounded (bounds.go), so a scan
// of the bytes rules out, for certain, nearly every row; the few that are left
// are decided on their exact vectors, which the caller fetches. The answer is
// therefore that of a scan over the exact vectors, always, and not only mostly.
package index
