package openclaw

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// ExitBadConfig is the exit code of a gateway that refuses its configuration.
const ExitBadConfig = 78

// aliveTime is how long a gateway may take to say that it lives. It answers in
// milliseconds unless the machine is out of breath.
const aliveTime = 10 * time.Second

// Alive asks whether the gateway's process still answers at all. One that is busy,
// or whose channels are broken, is alive.
func (g *Gateway) Alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, aliveTime)
	defer cancel()
	status, _, err := g.get(ctx, "/healthz")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("/healthz answered %d", status)
	}
	return err
}
