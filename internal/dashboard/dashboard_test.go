package dashboard

import (
	"net/http"
	"testing"
)

// TestPathsWithTwoSlashes: a mux would redirect them to where the dashboard is not.
func TestPathsWithTwoSlashes(t *testing.T) {
	env := newEnv(t)
	for _, path := range []string{"//agents", "/agents//x", "/agents/../agents", "/agents/%2F%2Fevil.example", "/agents/a%2F..%2Fb"} {
		env.as("owner").get(path).has(http.StatusNotFound)
	}
}
