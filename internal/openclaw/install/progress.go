package install

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
)

// progress prints the current phase, the time since the start, and the size of what
// is installed so far.
type progress struct {
	out      io.Writer
	terminal bool
	began    time.Time
	stopped  chan struct{}
	printer  sync.WaitGroup

	mu    sync.Mutex
	phase string // guarded by mu
	dir   string // guarded by mu
}

func newProgress(out io.Writer) *progress {
	p := &progress{out: out, began: time.Now(), stopped: make(chan struct{})}
	if file, ok := out.(*os.File); ok {
		p.terminal = isatty.IsTerminal(file.Fd())
	}
	if out == nil {
		return p
	}
	every := 10 * time.Second
	if p.terminal {
		every = 500 * time.Millisecond
	}
	p.printer.Go(func() { p.printEvery(every) })
	return p
}

// setPhase sets the current phase and the folder that grows during it.
func (p *progress) setPhase(phase, dir string) {
	p.mu.Lock()
	same := p.phase == phase
	p.phase, p.dir = phase, dir
	p.mu.Unlock()
	if !same {
		p.printStatus()
	}
}

// stop ends the output.
func (p *progress) stop() {
	close(p.stopped)
	p.printer.Wait()
	if p.terminal {
		p.print("\r\033[K")
	}
}

func (p *progress) printEvery(every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-p.stopped:
			return
		case <-ticker.C:
			p.printStatus()
		}
	}
}

func (p *progress) printStatus() {
	p.mu.Lock()
	phase, dir := p.phase, p.dir
	p.mu.Unlock()
	if p.out == nil || phase == "" {
		return
	}
	line := fmt.Sprintf("agent runtime: %s, %d s", phase, int(time.Since(p.began).Seconds()))
	if mb := dirSize(dir) >> 20; mb > 0 {
		line += fmt.Sprintf(", %d MB", mb)
	}
	if p.terminal {
		p.print("\r\033[K" + line)
		return
	}
	p.print(line + "\n")
}

func (p *progress) print(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = io.WriteString(p.out, text)
}

// dirSize returns the size of the files below dir. It skips files that npm moves in
// the meantime.
func dirSize(dir string) (total int64) {
	if dir == "" {
		return 0
	}
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil //nolint:nilerr // a file that disappears meanwhile does not count
		}
		if info, err := entry.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}
