package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkObservation compares the CPU time of a server for a request, with and without the
// access log and the metrics, in alternating pairs. The request is a cheap one, of which both
// are a larger part than of others.
func BenchmarkObservation(b *testing.B) {
	const pairs, requests = 30, 20_000
	plain := newMeasuredServer(b)
	observed := newMeasuredServer(b, "--access-log=json", "--metrics-listen=127.0.0.1:0")
	for b.Loop() {
		for _, s := range []*measuredServer{plain, observed} {
			s.cpuOf(requests) // not counted
		}
		var ratios, times []float64
		for i := range pairs {
			first, second := plain, observed
			if i%2 == 1 {
				first, second = second, first
			}
			used := map[*measuredServer]time.Duration{}
			used[first] = first.cpuOf(requests)
			used[second] = second.cpuOf(requests)
			ratios = append(ratios, float64(used[observed])/float64(used[plain]))
			times = append(times, float64(used[plain].Microseconds())/requests)
		}
		slices.Sort(ratios)
		slices.Sort(times)
		b.ReportMetric(ratios[pairs/2], "observed/plain")
		b.ReportMetric(ratios[pairs/10], "observed/plain-p10")
		b.ReportMetric(ratios[pairs*9/10], "observed/plain-p90")
		b.ReportMetric(times[pairs/2], "CPU-µs/request")
		b.ReportMetric(0, "ns/op")
	}
}

// measuredServer is a server whose CPU time is measured.
type measuredServer struct {
	b    *testing.B
	in   *installation
	key  string
	http *http.Client
}

// connections is how many requests are made at the same time.
const connections = 8

func newMeasuredServer(b *testing.B, flags ...string) *measuredServer {
	b.Helper()
	in := newInstallation(b)
	in.run("accounts", "create", "acme")
	key := in.run("keys", "create", "acme", "--rate-limit", "unlimited")
	cmd := in.program(append([]string{"serve", "--listen=127.0.0.1:0"}, flags...)...)
	out, err := os.Create(filepath.Join(b.TempDir(), "requests"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = out.Close() })
	cmd.Stdout = out
	in.startAs(cmd)
	return &measuredServer{b, in, strings.TrimSpace(key), &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}}
}

// cpuOf returns the CPU time that the server takes for a number of requests.
func (s *measuredServer) cpuOf(requests int) time.Duration {
	s.b.Helper()
	before := s.cpu()
	var all sync.WaitGroup
	for range connections {
		all.Go(func() {
			for range requests / connections {
				if err := s.request(); err != nil {
					s.b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return s.cpu() - before
}

func (s *measuredServer) request() error {
	r, err := http.NewRequestWithContext(s.b.Context(), http.MethodGet, s.in.url+"/v1/account", nil)
	if err != nil {
		return err
	}
	r.Header.Set("X-Api-Key", s.key)
	res, err := s.http.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	_, err = io.Copy(io.Discard, res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", res.StatusCode)
	}
	return err
}

// cpu returns the CPU time that the server has taken so far.
func (s *measuredServer) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.in.cmd.Process.Pid))
	if err != nil {
		s.b.Fatal(err)
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+2:]) // from the third on
	var ticks int64
	for _, i := range []int{11, 12} { // user and system
		n, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			s.b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
