package main

import (
	"testing"

	"agento.host/agento/internal/access"
)

func TestRateLimitOfANewKey(t *testing.T) {
	for text, want := range map[string]int{"120": 120, "1": 1, "10000": 10_000, "unlimited": access.UnlimitedRate, "0": 0, "10001": 0, "2147483647": 0, "-1": 0, "": 0, "many": 0} {
		if got, err := (keyCreate{RateLimit: text}).rateLimit(); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
}
