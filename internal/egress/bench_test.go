package egress_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/egress/egresstest"
	"agento.host/agento/internal/identity"
)

// sink serves a TCP server that sends size bytes to each client that sends a byte d, and
// reads all that one sends that sends a byte u, and answers with a byte.
func sink(b *testing.B, size int) net.Addr {
	b.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveSink(c, size)
		}
	}()
	return l.Addr()
}

// sinkBlock is what a sink sends.
var sinkBlock = make([]byte, 256<<10)

func serveSink(c net.Conn, size int) {
	defer func() { _ = c.Close() }()
	if size == unreadSize { // its buffers are elsewhere
		_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10)
	}
	command := make([]byte, 1)
	if _, err := io.ReadFull(c, command); err != nil {
		return
	}
	block := sinkBlock
	if command[0] == 'd' {
		for sent := 0; sent < size; {
			n, err := c.Write(block[:min(len(block), size-sent)])
			if err != nil {
				return
			}
			sent += n
		}
		return
	}
	block = make([]byte, len(sinkBlock))
	for got := 0; got < size; {
		n, err := c.Read(block)
		if err != nil {
			return
		}
		got += n
	}
	_, _ = c.Write(command)
}

// transfer sends or receives size bytes.
func transfer(b *testing.B, c net.Conn, command byte, size int) {
	b.Helper()
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		b.Fatal(err)
	}
	block := make([]byte, 256<<10)
	if _, err := c.Write([]byte{command}); err != nil {
		b.Fatal(err)
	}
	if command == 'u' {
		for sent := 0; sent < size; {
			n, err := c.Write(block[:min(len(block), size-sent)])
			if err != nil {
				b.Fatal(err)
			}
			sent += n
		}
		size = 1
	}
	for got := 0; got < size; {
		n, err := c.Read(block)
		if err != nil {
			b.Fatal(err)
		}
		got += n
	}
}

func unlimited(s *egress.Settings) { s.Limits.BytesPerSecond = 0 }

// BenchmarkThroughput compares the way out with a connection on loopback. Client, way and
// server share the CPUs, so that the ratio is a low bound. The way out copies twice what
// loopback does.
func BenchmarkThroughput(b *testing.B) {
	const size = 256 << 20
	server := sink(b, size)
	n := newNet(b, "open", unlimited)
	n.At(public+":22", server)
	for _, c := range []struct {
		name    string
		command byte
	}{{"down", 'd'}, {"up", 'u'}} {
		b.Run(c.name, func(b *testing.B) {
			var direct, out, cpu time.Duration
			for b.Loop() {
				start, used := time.Now(), cpuTime(b)
				d, err := net.Dial("tcp4", server.String())
				if err != nil {
					b.Fatal(err)
				}
				transfer(b, d, c.command, size)
				direct += time.Since(start)
				cpu -= cpuTime(b) - used
				start, used = time.Now(), cpuTime(b)
				transfer(b, n.Connect(addrPort(public+":22")), c.command, size)
				out += time.Since(start)
				cpu += cpuTime(b) - used
			}
			mb := float64(b.N) * size / 1e6
			b.ReportMetric(mb/direct.Seconds(), "loopback-MB/s")
			b.ReportMetric(mb/out.Seconds(), "wayout-MB/s")
			b.ReportMetric(direct.Seconds()/out.Seconds(), "wayout/loopback")
			b.ReportMetric(cpu.Seconds()/mb*1000, "way-cpu-s/GB") // beside what client and server use
			b.ReportMetric(0, "ns/op")
		})
	}
}

// cpuTime returns the time of the CPUs that this process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkNewConnection compares the time of a new connection with one byte there and
// back.
func BenchmarkNewConnection(b *testing.B) {
	server := echo(b)
	n := newNet(b, "open", unlimited)
	n.At(public+":22", server)
	once := func(dial func() net.Conn) time.Duration {
		start := time.Now()
		c := dial()
		defer func() { _ = c.Close() }()
		one := []byte{1}
		if _, err := c.Write(one); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, one); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	var direct, out []time.Duration
	for b.Loop() {
		direct = append(direct, once(func() net.Conn {
			c, err := net.Dial("tcp4", server.String())
			if err != nil {
				b.Fatal(err)
			}
			return c
		}))
		out = append(out, once(func() net.Conn { return n.Connect(addrPort(public + ":22")) }))
	}
	slices.Sort(direct)
	slices.Sort(out)
	for name, times := range map[string][]time.Duration{"loopback": direct, "wayout": out} {
		b.ReportMetric(times[len(times)/2].Seconds()*1000, name+"-p50-ms")
		b.ReportMetric(times[len(times)*99/100].Seconds()*1000, name+"-p99-ms")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkIdleConnections measures the server's memory for an idle connection, and for an
// agent at rest.
func BenchmarkIdleConnections(b *testing.B) {
	const connections, agents = 200, 200
	heap := func() float64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapInuse+m.StackInuse) / 1024
	}
	var perConnection, perAgent float64
	for b.Loop() {
		n := newNet(b, "open", unlimited)
		n.At(public+":22", echo(b))
		speakAll := func(count int) []net.Conn {
			var all []net.Conn
			var group sync.WaitGroup
			for range count {
				c := n.Connect(addrPort(public + ":22"))
				all = append(all, c)
				group.Go(func() {
					one := []byte{1}
					_, _ = c.Write(one)
					_, _ = io.ReadFull(c, one)
				})
			}
			group.Wait()
			return all
		}
		speakAll(10)
		before := heap()
		all := speakAll(connections)
		perConnection += (heap() - before) / connections
		for _, c := range all {
			_ = c.Close()
		}
		before = heap()
		for i := range agents {
			id := identity.AgentID(fmt.Sprint("at-rest-", i))
			egresstest.New(b).Attach(n.manager, id)
			b.Cleanup(func() { n.manager.Detach(id) })
		}
		perAgent += (heap() - before) / agents
	}
	b.ReportMetric(perConnection/float64(b.N), "KB/connection") // with the echo server's half of it
	b.ReportMetric(perAgent/float64(b.N), "KB/agent")
	b.ReportMetric(0, "ns/op")
}

const unreadSize = 1 << 30

// BenchmarkUnreadDownloads measures what an agent can make the server and the kernel keep:
// it opens 1,000 downloads and reads none. In a namespace the kernel keeps less, because
// the agent's own buffers are bounded there.
func BenchmarkUnreadDownloads(b *testing.B) {
	var total float64
	for b.Loop() {
		n := newNet(b, "open", unlimited)
		n.At(public+":22", sink(b, unreadSize))
		before := tcpMemory(b) + heapInUse()
		var open []net.Conn
		for range 1000 {
			c := n.Connect(addrPort(public + ":22"))
			_ = c.SetReadBuffer(64 << 10) // as in a namespace
			if _, err := c.Write([]byte{'d'}); err == nil {
				open = append(open, c)
			}
		}
		last := 0.0
		await(b, "the memory grows no more", func() bool {
			time.Sleep(200 * time.Millisecond)
			now := tcpMemory(b) + heapInUse()
			grown := now > last*1.01
			last = max(last, now)
			return !grown
		})
		total += last - before
		for _, c := range open {
			_ = c.Close()
		}
		n.manager.Detach(testAgent)
	}
	b.ReportMetric(total/float64(b.N), "MB")
	b.ReportMetric(0, "ns/op")
}

func heapInUse() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapInuse+m.StackInuse) / 1e6
}

// tcpMemory returns what the kernel uses for TCP, of the whole machine, in MB.
func tcpMemory(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		b.Skip(err)
	}
	_, after, _ := strings.Cut(string(text), "TCP: ")
	var inUse, orphan, timeWait, alloc, pages int
	if _, err := fmt.Sscanf(after, "inuse %d orphan %d tw %d alloc %d mem %d", &inUse, &orphan, &timeWait, &alloc, &pages); err != nil {
		b.Skip(err)
	}
	return float64(pages*os.Getpagesize()) / 1e6
}
