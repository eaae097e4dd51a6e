package main

import (
	"testing"

	"agento.host/agento/internal/access"
)

func TestRateLimitOfANewKey(t *testing.T) {
	for text, want := range map[string]rateLimit{"120": 120, "1": 1, "1000000": 1_000_000, "unlimited": access.Unlimited, "0": 0, "1000001": 0, "2147483647": 0, "-1": 0, "": 0, "many": 0} {
		var got rateLimit
		if err := got.UnmarshalText([]byte(text)); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
}
