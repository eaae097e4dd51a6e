//go:build !linux

package process

import (
	"errors"

	"agento.host/agento/internal/runtime"
)

// limiter keeps agents within their limits; only Linux has one.
type limiter struct{ reason string }

func probeLimits(string) limiter { return limiter{reason: "control groups need Linux"} }

func (l limiter) describe() (kind, reason string) { return "watch", l.reason }

func (limiter) create(string, runtime.Limits) (groups, enter []string, err error) {
	return nil, nil, nil
}

func (limiter) usage(record) (usage, error) { return usage{}, errors.New("no control group") }

func (limiter) oomKilled(record) bool { return false }

func (limiter) members(string, record) []int { return nil }

func (limiter) seal(string, record) {}

func (limiter) remove(string, record) error { return nil }

func (limiter) ids() []string { return nil }

func countsByNamespace() bool { return false }

func seccompFilter() []byte { return nil }
