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

// progress shows the present phase, how long the whole has taken and how much is
// there already.
type progress struct {
	out      io.Writer
	terminal bool
	began    time.Time
	stop     chan struct{}
	wait     sync.WaitGroup

	mu   sync.Mutex
	text string // guarded by mu
	dir  string // guarded by mu
}

func newProgress(out io.Writer) *progress {
	p := &progress{out: out, began: time.Now(), stop: make(chan struct{})}
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
	p.wait.Go(func() { p.tick(every) })
	return p
}

// phase names what happens now and the folder that grows meanwhile.
func (p *progress) phase(text, dir string) {
	p.mu.Lock()
	same := p.text == text
	p.text, p.dir = text, dir
	p.mu.Unlock()
	if !same {
		p.show()
	}
}

// done ends the display; nothing is written afterwards.
func (p *progress) done() {
	close(p.stop)
	p.wait.Wait()
	if p.terminal {
		p.print("\r\033[K")
	}
}

func (p *progress) tick(every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
			p.show()
		}
	}
}

func (p *progress) show() {
	p.mu.Lock()
	text, dir := p.text, p.dir
	p.mu.Unlock()
	if p.out == nil || text == "" {
		return
	}
	line := fmt.Sprintf("agent runtime: %s, %d s", text, int(time.Since(p.began).Seconds()))
	if mb := size(dir) >> 20; mb > 0 {
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

// size adds up the files below dir, as far as they can be read while npm moves them.
func size(dir string) (total int64) {
	if dir == "" {
		return 0
	}
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil //nolint:nilerr // what vanishes while we look does not count
		}
		if info, err := entry.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}
