package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/admin"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
)

// The benchmarks of sleep run real gateways in the real sandbox, with a scripted model that answers
// at once, and compare in one run. They need root and criu, and are skipped elsewhere. Flags of the
// server come from the environment as usual, such as AGENTO_MEMORY. What they do can be changed:
//
//	AGENTO_BENCH_COLDS   restarts that others are compared to (3)
//	AGENTO_BENCH_WAKES   wakes of BenchmarkSleepWake (20)
//	AGENTO_BENCH_CYCLES  lives of BenchmarkSleepCycles (100)
//	AGENTO_BENCH_AWAKE   time of each half of BenchmarkSleepNeighbours (2m)
//	AGENTO_BENCH_FLEET   agents of BenchmarkSleepFleet (as many as fit into the memory, 60 at most)
//	AGENTO_BENCH_PAUSE   between two messages to the fleet (5s)
//	AGENTO_BENCH_TIME    the longest time of a benchmark after its agents were created (10m, and 20m for
//	                     BenchmarkSleepCycles)

func benchNumber(b *testing.B, name string, otherwise int) int {
	b.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("%s=%q is no number", name, text)
	}
	return n
}

func benchTime(b *testing.B, name string, otherwise time.Duration) time.Duration {
	b.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		b.Fatalf("%s=%q is no time, such as 2m", name, text)
	}
	return d
}

// dormitory is an installation whose agents sleep.
type dormitory struct {
	*installation
	b        *testing.B
	deadline time.Time // of the benchmark; zero: its agents are not created yet
}

// newDormitory starts one whose agents sleep 5 s after their last turn.
func newDormitory(b *testing.B) *dormitory {
	b.Helper()
	if os.Getuid() != 0 {
		b.Skip("agents sleep only if the server is root")
	}
	b.Setenv("AGENTO_SLEEP", "auto")
	b.Setenv("AGENTO_LINGER", cmp.Or(os.Getenv("AGENTO_LINGER"), "5s"))
	d := &dormitory{installation: newInstallation(b, "acme"), b: b}
	d.start()
	return d
}

func (d *dormitory) api() *client.Client { return d.client("acme") }

// create creates an agent that can sleep, or with keepAwake one that does not.
func (d *dormitory) create(name string, keepAwake bool) string {
	d.b.Helper()
	request := d.newAgent(name)
	request.SoulMD = "# SOUL.md\n\nYou speak like a lighthouse keeper."
	if keepAwake {
		request.Config["keepAwake"] = true
	}
	a, err := d.api().CreateAgent(d.b.Context(), request)
	if err != nil {
		d.b.Fatal(err)
	}
	if why := d.status(a.ID).KeptAwake; why != "" && !keepAwake {
		d.b.Skip("agents do not sleep here: " + why)
	}
	return a.ID
}

// begin begins the time of the benchmark, which is usual unless the environment says otherwise.
func (d *dormitory) begin(usual time.Duration) {
	d.deadline = time.Now().Add(benchTime(d.b, "AGENTO_BENCH_TIME", usual))
}

func (d *dormitory) hasTime() bool { return time.Now().Before(d.deadline) }

func (d *dormitory) status(id string) client.LiveStatus {
	d.b.Helper()
	s, err := d.api().AgentStatus(d.b.Context(), id)
	if err != nil {
		d.b.Fatal(err)
	}
	return s
}

func (d *dormitory) untilAsleep(id string) {
	d.b.Helper()
	waitUntil(d.b, "the agent sleeps", func() bool { return d.status(id).ContainerStatus == "asleep" })
}

// restart returns the time from a restart of an agent to its first token.
func (d *dormitory) restart(id string) time.Duration {
	d.b.Helper()
	began := time.Now()
	if _, err := d.api().RestartAgent(d.b.Context(), id); err != nil {
		d.b.Fatal(err)
	}
	firstToken(d.b, d.api(), id)
	return time.Since(began)
}

// colds returns the times of some restarts, sorted.
func (d *dormitory) colds(id string) (all []time.Duration) {
	d.b.Helper()
	firstToken(d.b, d.api(), id) // what is done once
	for range benchNumber(d.b, "AGENTO_BENCH_COLDS", 3) {
		all = append(all, d.restart(id))
	}
	slices.Sort(all)
	return all
}

// top returns what the agents use.
func (d *dormitory) top() admin.Top {
	d.b.Helper()
	c, err := admin.Dial(d.b.Context(), d.data)
	if err != nil {
		d.b.Fatal(err)
	}
	top, err := c.Top(d.b.Context())
	if err != nil {
		d.b.Fatal(err)
	}
	return top
}

// descriptors returns how many files the server has open.
func (d *dormitory) descriptors() int {
	d.b.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err != nil {
		d.b.Fatal(err)
	}
	return len(open)
}

// homes returns the bytes of all files of agents.
func (d *dormitory) homes() (bytes int64) {
	d.b.Helper()
	_ = filepath.WalkDir(filepath.Join(d.data, "agents"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil { // else it was removed meanwhile
				bytes += info.Size()
			}
		}
		return nil
	})
	return bytes
}

// written returns what the server, and the programs that it has waited for, have written to disks.
func (d *dormitory) written() int64 {
	return d.procNumber(fmt.Sprintf("/proc/%d/io", d.cmd.Process.Pid), "write_bytes:")
}

// procNumber returns a number of a file of proc with a name in each line.
func (d *dormitory) procNumber(path, name string) int64 {
	d.b.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		d.b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				d.b.Fatal(err)
			}
			return n
		}
	}
	d.b.Fatalf("%s has no %s", path, name)
	return 0
}

// machineCPU returns the CPU time that the machine has used: run these benchmarks on a quiet one. It
// contains everything that a life costs, whatever process has done it.
func (d *dormitory) machineCPU() time.Duration {
	d.b.Helper()
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		d.b.Fatal(err)
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	var ticks int64
	for i, field := range strings.Fields(string(first))[1:9] {
		if i == 3 || i == 4 { // idle, and waiting for a disk
			continue
		}
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			d.b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// wakeSteps matches what the server's log says of the steps of a wake.
var wakeSteps = regexp.MustCompile(`msg="the steps of a wake".*`)

var wakeStep = regexp.MustCompile(`(\w+)_ms=(\d+)`)

// reportSteps reports the medians of the steps of the last wakes in the log: the time until the wake
// begins and until its end is stored, each step, and the time from the wake to the first token.
func (d *dormitory) reportSteps(wakes, totals []time.Duration) {
	lines := wakeSteps.FindAllString(d.logs.String(), -1)
	steps := map[string][]time.Duration{}
	for i, line := range lines[max(0, len(lines)-len(wakes)):] {
		rest := wakes[min(i, len(wakes)-1)]
		for _, step := range wakeStep.FindAllStringSubmatch(line, -1) {
			ms, _ := strconv.Atoi(step[2]) // of digits
			took := time.Duration(ms) * time.Millisecond
			steps[step[1]] = append(steps[step[1]], took)
			rest -= took
		}
		steps["record"] = append(steps["record"], rest)
	}
	for i, total := range totals {
		steps["turn"] = append(steps["turn"], total-wakes[i])
	}
	for _, name := range slices.Sorted(maps.Keys(steps)) {
		d.b.ReportMetric(float64(median(steps[name]).Milliseconds()), "ms-"+name)
	}
}

// median and its like return 0 of nothing.
func median(all []time.Duration) time.Duration { return quantile(all, 0.5) }

func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

// moveAtOnce starts another server, which moves checkpoints to the disk as soon as it can.
func (d *dormitory) moveAtOnce() {
	d.b.Helper()
	d.stop()
	d.b.Setenv("AGENTO_CHECKPOINT_DISK_AFTER", "1ms")
	d.start()
}

// untilOnDisk waits until the checkpoint of the only agent is on the disk, and not in memory any more.
func (d *dormitory) untilOnDisk(id string) {
	d.b.Helper()
	d.untilAsleep(id)
	waitUntil(d.b, "the checkpoint is on the disk", func() bool {
		use, err := process.CheckpointUse(process.Settings{Dir: filepath.Join(d.data, agentsDir), Installation: d.id()})
		if err != nil {
			d.b.Fatal(err)
		}
		return use.OnDisk.Count == 1
	})
	d.dropCaches()
}

// dropCaches empties the page cache, so that a checkpoint on a disk is read from there.
func (d *dormitory) dropCaches() {
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		d.b.Log("the page cache cannot be emptied:", err)
	}
}

// BenchmarkSleepWake compares the time from a message to an agent that sleeps to its first token with
// that from a restart: with a checkpoint that was just made, one that is older than the compression,
// and one that is not in the page cache. It prints where the time of a wake goes, step by step.
func BenchmarkSleepWake(b *testing.B) {
	for b.Loop() {
		d := newDormitory(b)
		id := d.create("ada", false)
		d.begin(10 * time.Minute)
		cold := median(d.colds(id))
		var totals, wakes []time.Duration
		for n := 0; n < benchNumber(b, "AGENTO_BENCH_WAKES", 20) && d.hasTime(); n++ {
			d.untilAsleep(id)
			totals = append(totals, firstToken(b, d.api(), id))
			wakes = append(wakes, time.Duration(d.status(id).WakeMs)*time.Millisecond)
		}
		b.ReportMetric(float64(cold.Milliseconds()), "ms-restart")
		b.ReportMetric(float64(median(totals).Milliseconds()), "ms-wake")
		b.ReportMetric(ratio(median(totals), cold), "wake/restart")
		b.ReportMetric(ratio(quantile(totals, 0.99), cold), "wake-p99/restart")
		d.reportSteps(wakes, totals)
		d.untilAsleep(id)
		if before := d.top().CheckpointBytes; d.hasTime() {
			b.ReportMetric(float64(before)/1e6, "MB-checkpoint")
			time.Sleep(min(100*time.Second, time.Until(d.deadline))) // the compression
			b.ReportMetric(float64(d.top().CheckpointBytes)/1e6, "MB-checkpoint-later")
			b.ReportMetric(ratio(firstToken(b, d.api(), id), cold), "later-wake/restart")
		}
		d.moveAtOnce()
		firstToken(b, d.api(), id) // what a server does once
		d.untilOnDisk(id)
		b.ReportMetric(ratio(firstToken(b, d.api(), id), cold), "uncached-wake/restart")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkSleepCycles lets one agent live many times. In each life it has a turn that knows the one
// before, its personality, and a tool call. It reports what a life costs, and what has grown since
// the fifth.
func BenchmarkSleepCycles(b *testing.B) {
	const settled = 5
	for b.Loop() {
		d := newDormitory(b)
		id := d.create("ada", false)
		firstToken(b, d.api(), id)
		d.begin(20 * time.Minute)
		var checkpoint, disk int64
		var open int
		var began time.Duration
		wrong, lives := 0, 0
		for n := 0; n < max(benchNumber(b, "AGENTO_BENCH_CYCLES", 100), settled+1) && d.hasTime(); n++ {
			d.untilAsleep(id)
			if left := runningGateways(d.gateways()); left > 0 {
				b.Errorf("life %d: %d gateways run while the agent sleeps", n, left)
			}
			if n == settled {
				checkpoint, disk, open, began = d.top().CheckpointBytes, d.homes(), d.descriptors(), d.machineCPU()
			}
			if !d.live(id, n) {
				wrong++
			}
			lives++
		}
		d.untilAsleep(id)
		b.ReportMetric(float64(lives), "lives")
		b.ReportMetric(float64(wrong), "wrong")
		if lives > settled {
			b.ReportMetric(float64(d.top().CheckpointBytes)/float64(checkpoint), "checkpoint-last/fifth")
			b.ReportMetric(float64(d.homes())/float64(disk), "disk-last/fifth")
			b.ReportMetric(float64(d.descriptors()-open), "descriptors-more")
			b.ReportMetric((d.machineCPU()-began).Seconds()/float64(lives-settled), "CPU-s/life")
		}
		b.ReportMetric(float64(d.top().CheckpointBytes)/1e6, "MB-checkpoint")
		b.ReportMetric(float64(d.homes())/1e6, "MB-home")
		b.ReportMetric(0, "ns/op")
	}
}

// live lets an agent live once, and reports whether everything is right.
func (d *dormitory) live(id string, n int) bool {
	d.b.Helper()
	calls, want := d.model.Count(), fmt.Sprintf("life-%d", n)
	text := send(d.b, d.api(), id, client.ChatRequest{Message: "echo " + want})
	call, err := d.model.Wait(d.b.Context(), calls+1)
	if err != nil {
		d.b.Fatal(err)
	}
	knows := strings.Contains(string(call.Body), "lighthouse keeper") && (n == 0 || strings.Contains(string(call.Body), fmt.Sprintf("life-%d", n-1)))
	out := execute(d.b, d.api(), id, "echo $((40+2))")
	if text == want && knows && strings.Contains(out, "42") {
		return true
	}
	d.b.Logf("life %d: the answer is %q, the model knows what was before: %t, the tool says %q", n, text, knows, out)
	return false
}

// BenchmarkSleepNeighbours measures the first tokens of an agent that is awake, while others sleep
// and while others wake and are suspended all the time.
func BenchmarkSleepNeighbours(b *testing.B) {
	for b.Loop() {
		d := newDormitory(b)
		awake := d.create("awake", true)
		others := []string{d.create("bob", false), d.create("carl", false)}
		firstToken(b, d.api(), awake)
		half := benchTime(b, "AGENTO_BENCH_AWAKE", 2*time.Minute)
		for _, id := range others {
			d.untilAsleep(id)
		}
		quiet := d.turns(awake, half)
		ctx, cancel := context.WithCancel(b.Context())
		var messages sync.WaitGroup
		wakes := make([]int, len(others))
		for i, id := range others {
			messages.Go(func() {
				for ctx.Err() == nil {
					s, err := d.api().AgentStatus(ctx, id)
					if err == nil && s.ContainerStatus == "asleep" {
						if _, err := trySend(ctx, d.api(), id, client.ChatRequest{Message: "echo up"}); err != nil && ctx.Err() == nil {
							b.Error(err)
						}
						wakes[i]++
					}
					select {
					case <-time.After(100 * time.Millisecond):
					case <-ctx.Done():
					}
				}
			})
		}
		busy := d.turns(awake, half)
		cancel()
		messages.Wait()
		total := 0
		for _, n := range wakes {
			total += n
		}
		b.ReportMetric(float64(total), "wakes")
		b.ReportMetric(float64(len(busy)), "turns")
		b.ReportMetric(float64(quantile(quiet, 0.99).Microseconds())/1000, "ms-p99-quiet")
		b.ReportMetric(ratio(median(busy), median(quiet)), "p50-busy/quiet")
		b.ReportMetric(ratio(quantile(busy, 0.99), quantile(quiet, 0.99)), "p99-busy/quiet")
		b.ReportMetric(0, "ns/op")
	}
}

// turns returns the times to the first tokens of an agent's turns, three in a second, for some time.
func (d *dormitory) turns(id string, long time.Duration) (all []time.Duration) {
	d.b.Helper()
	for ends := time.Now().Add(long); time.Now().Before(ends); {
		next := time.Now().Add(time.Second / 3)
		all = append(all, firstToken(d.b, d.api(), id))
		time.Sleep(time.Until(next))
	}
	return all
}

// BenchmarkSleepFleet sends a message to a random one of many agents again and again, and compares
// the times to the first tokens with that from a restart.
func BenchmarkSleepFleet(b *testing.B) {
	for b.Loop() {
		d := newDormitory(b)
		size := benchNumber(b, "AGENTO_BENCH_FLEET", d.fits())
		pause := benchTime(b, "AGENTO_BENCH_PAUSE", 5*time.Second)
		ids := []string{d.create("agent-0", false)}
		cold := median(d.colds(ids[0]))
		for n := 1; n < size; n++ {
			ids = append(ids, d.create(fmt.Sprintf("agent-%d", n), false))
		}
		d.untilAsleep(ids[len(ids)-1])
		d.begin(10 * time.Minute)
		random := rand.New(rand.NewPCG(15, uint64(size)))
		began, cpu, written := time.Now(), d.machineCPU(), d.written()
		least := d.available()
		var mu sync.Mutex
		var times []time.Duration
		failed := 0
		var messages sync.WaitGroup
		for next := time.Now(); d.hasTime(); next = next.Add(pause) {
			time.Sleep(time.Until(next))
			least = min(least, d.available())
			id := ids[random.IntN(len(ids))]
			messages.Go(func() {
				took, err := d.tryFirstToken(id)
				mu.Lock()
				defer mu.Unlock()
				if times = append(times, took); err != nil {
					failed++
					b.Log(err)
				}
			})
		}
		messages.Wait()
		long, used, wrote := time.Since(began), d.machineCPU()-cpu, d.written()-written
		d.burst(ids, 50)
		b.ReportMetric(float64(size), "agents")
		b.ReportMetric(float64(len(times)), "messages")
		b.ReportMetric(float64(failed), "failed")
		b.ReportMetric(float64(cold.Milliseconds()), "ms-restart")
		b.ReportMetric(ratio(median(times), cold), "p50/restart")
		b.ReportMetric(ratio(quantile(times, 0.99), cold), "p99/restart")
		b.ReportMetric(ratio(used, long), "cores")
		b.ReportMetric(float64(wrote)/1e6/float64(len(times)), "MB-written/message")
		b.ReportMetric(float64(least)/1e9, "GB-available-least")
		b.ReportMetric(float64(d.top().CheckpointBytes)/1e6, "MB-checkpoints")
		b.ReportMetric(0, "ns/op")
	}
}

// burst sends a message to n agents at once. Those that do not wake within the time that a message
// waits for room are refused with a time to try again, and are tried again then: that is not a failure.
func (d *dormitory) burst(ids []string, n int) {
	ids = ids[:min(n, len(ids))]
	began, kills := time.Now(), d.procNumber("/proc/vmstat", "oom_kill")
	var mu sync.Mutex
	var times []time.Duration
	refused, failed := 0, 0
	least := d.available()
	var messages sync.WaitGroup
	for _, id := range ids {
		messages.Go(func() {
			for {
				_, err := d.tryFirstToken(id)
				mu.Lock()
				least = min(least, d.available())
				var refusal *client.Error
				again := errors.As(err, &refusal) && refusal.Code == "unavailable" && time.Since(began) < 10*time.Minute
				switch {
				case again:
					refused++
				case err != nil:
					failed++
					d.b.Log(err)
				default:
					times = append(times, time.Since(began))
				}
				mu.Unlock()
				if !again {
					return
				}
				time.Sleep(time.Second)
			}
		})
	}
	messages.Wait()
	d.b.ReportMetric(median(times).Seconds(), "s-burst-p50")
	d.b.ReportMetric(quantile(times, 1).Seconds(), "s-burst-last")
	d.b.ReportMetric(float64(refused), "burst-refused")
	d.b.ReportMetric(float64(failed), "burst-failed")
	d.b.ReportMetric(float64(d.procNumber("/proc/vmstat", "oom_kill")-kills), "oom-kills")
	d.b.ReportMetric(float64(least)/1e9, "GB-available-burst")
}

// tryFirstToken is firstToken for a message that may fail.
func (d *dormitory) tryFirstToken(id string) (first time.Duration, err error) {
	began := time.Now()
	for e, err := range d.api().Chat(d.b.Context(), id, client.ChatRequest{Message: "echo aye"}) {
		if err != nil {
			return time.Since(began), err
		}
		if e.Type == "error" {
			return time.Since(began), &client.Error{Code: e.Code, Message: e.Message}
		}
		if first == 0 && e.Content != "" {
			first = time.Since(began)
		}
	}
	return first, nil
}

// available returns the memory that programs can still have, in bytes.
func (d *dormitory) available() int64 { return d.procNumber("/proc/meminfo", "MemAvailable:") << 10 }

// fits returns for how many agents there is memory: four gateways that are awake at the same time,
// and a checkpoint of each agent, which has 0.3 GB when it is compressed.
func (d *dormitory) fits() int {
	const awake, checkpoint = 5e9, 0.3e9
	return max(1, min(60, int((float64(d.available())*0.7-awake)/checkpoint)))
}

func runningGateways(found []runtime.Found) (n int) {
	for _, f := range found {
		if f.Running {
			n++
		}
	}
	return n
}
