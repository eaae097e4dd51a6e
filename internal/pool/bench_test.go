package pool_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/pool/sshlink"
	"agento.host/agento/internal/pool/sshtest"
)

// BenchmarkOverSSH compares calls of an engine over SSH with those of its socket: of the engine at
// POOL_TEST_ENGINE, or Docker's. The times are in one run: p50-ratio is what counts.
func BenchmarkOverSSH(b *testing.B) {
	socket := os.Getenv("POOL_TEST_ENGINE")
	if socket == "" {
		socket = pool.DefaultSocket
	}
	local := func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "unix", socket) }
	if conn, err := local(b.Context()); err != nil {
		b.Skip("skipped: no engine: ", err)
	} else {
		_ = conn.Close()
	}
	s := sshtest.Start(b)
	key, line, _ := sshtest.NewKey(b)
	s.Authorize(line)
	keys, err := sshlink.ScanHostKeys(b.Context(), s.Address)
	if err != nil {
		b.Fatal(err)
	}
	settings := sshlink.Settings{User: s.User, Address: s.Address, HostKeys: keys, Keys: func(context.Context) ([]ssh.Signer, error) { return []ssh.Signer{key}, nil }}
	var handshakes, opens []time.Duration
	for range 10 {
		link := sshlink.New(settings)
		began := time.Now()
		if err := link.Connect(b.Context()); err != nil {
			b.Fatal(err)
		}
		handshakes = append(handshakes, time.Since(began))
		_ = link.Close()
	}
	link := sshlink.New(settings)
	defer func() { _ = link.Close() }()
	for range 200 {
		began := time.Now()
		c, err := link.DialContext(b.Context(), "unix", socket)
		if err != nil {
			b.Fatal(err)
		}
		opens = append(opens, time.Since(began))
		_ = c.Close()
	}
	direct, over := listClient(local), listClient(link.Dialer(socket))
	var directly, overSSH []time.Duration
	for b.Loop() {
		directly, overSSH = append(directly, listContainers(b, direct)), append(overSSH, listContainers(b, over))
	}
	ms := func(all []time.Duration) float64 { return float64(p50(all).Microseconds()) / 1000 }
	b.ReportMetric(ms(handshakes), "handshake-ms")
	b.ReportMetric(ms(opens), "open-ms")
	b.ReportMetric(ms(directly), "socket-p50-ms")
	b.ReportMetric(ms(overSSH), "ssh-p50-ms")
	b.ReportMetric(ms(overSSH)/ms(directly), "p50-ratio")
}

func listClient(dial func(context.Context) (net.Conn, error)) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}}
}

func listContainers(b *testing.B, c *http.Client) time.Duration {
	began := time.Now()
	res, err := c.Get("http://engine/containers/json")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

func p50(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
