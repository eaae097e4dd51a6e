//go:build linux

package container

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"agento.host/agento/internal/runtime/relay/wire"
)

// connectTimeout is how long connect waits for a relay that has just been started.
const connectTimeout = 10 * time.Second

// connect copies between its standard input and output and the relay's socket until either ends.
func connect(args []string, stdin io.Reader, stdout io.Writer) error {
	if err := hide(); err != nil {
		return fmt.Errorf("hide from the agent: %w", err)
	}
	flags := flag.NewFlagSet("connect", flag.ContinueOnError)
	socket := flags.String("socket", wire.Socket, "unix socket of the relay")
	pid := flags.Int("pid", 1, "process of the relay")
	if err := flags.Parse(args); err != nil {
		return err
	}
	os.Clearenv()
	c, err := dialRelay(*socket)
	if err != nil {
		return fmt.Errorf("connect to the relay: %w", err)
	}
	defer func() { _ = c.Close() }()
	if cred := credentials(c); cred == nil || int(cred.Pid) != *pid {
		return errors.New("another process than the relay listens at its socket")
	}
	ended := make(chan error, 2)
	go func() {
		_, err := io.Copy(c, stdin)
		ended <- err
	}()
	go func() {
		_, err := io.Copy(stdout, c)
		ended <- err
	}()
	return <-ended
}

func dialRelay(socket string) (*net.UnixConn, error) {
	for deadline := time.Now().Add(connectTimeout); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
		if err == nil || time.Now().After(deadline) {
			return c, err
		}
	}
}
