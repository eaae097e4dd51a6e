package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"agento.host/agento/internal/openclaw/install"
)

// layoutVersion changes when the same lock files give other layers.
const layoutVersion = "1"

// DefaultReference is the name of the image.
const DefaultReference = "agento/openclaw:" + install.OpenClawVersion

// RelayPath is the relay in the image.
const RelayPath = "/agento-relay"

// Labels of the image.
const (
	LabelOpenClaw = "agento.image.openclaw" // version
	LabelNode     = "agento.image.node"     // version
	LabelLock     = "agento.image.lock"     // names what the lock files pin
)

// Settings configure an image.
type Settings struct {
	// Reference is the image's name and tag; empty means DefaultReference.
	Reference string
	// Architecture is Go's name of one; empty means this machine's. Node and OpenClaw are
	// only there for this machine's.
	Architecture string
	// Relay is the relay's program, which must be static. Empty means agento-relay beside this
	// program, and none WithoutRuntime.
	Relay string
	// WithoutRuntime leaves out Node and OpenClaw, for tests.
	WithoutRuntime bool
	// Extra are files that come last, for tests.
	Extra []File
	// Mirror is the address of a server with /debian and /debian-security; empty means
	// DefaultMirror.
	Mirror string
	// Cache is where packages and layers are kept; empty means image in agento's cache
	// directory.
	Cache string
	// HTTP fetches packages; nil means a client of its own.
	HTTP *http.Client
	// Runtime says where Node and OpenClaw are, or are installed to.
	Runtime install.Settings
	// Progress gets a line for each thing that takes long; nil means none.
	Progress io.Writer
}

// File is a file of this machine that goes into the image, owned by root.
type File struct {
	Path   string // in the image
	Source string // on this machine
	Mode   int64
}

// Image is a container image. Its files are read when it is written or loaded.
type Image struct {
	Reference    string
	ID           string // the digest of its configuration, which names all that is in it: "sha256:…"
	Architecture string
	Layers       []Layer

	tag   name.Tag
	built v1.Image
}

// Layer is a part of an image.
type Layer struct {
	Name     string `json:"name"`
	DiffID   string `json:"diffId"`
	Sent     int64  `json:"sent"`     // bytes, as it is written and loaded
	Unpacked int64  `json:"unpacked"` // bytes, as an engine stores it
}

// Sent returns how many bytes are written or loaded.
func (i *Image) Sent() (total int64) {
	for _, l := range i.Layers {
		total += l.Sent
	}
	return total
}

// Unpacked returns how many bytes an engine stores.
func (i *Image) Unpacked() (total int64) {
	for _, l := range i.Layers {
		total += l.Unpacked
	}
	return total
}

// WriteTo writes the image as docker save does, for docker load. It implements io.WriterTo.
func (i *Image) WriteTo(w io.Writer) (int64, error) {
	sent := newCounter()
	err := tarball.Write(i.tag, i.built, io.MultiWriter(w, sent))
	return sent.size, err
}

// Build makes an image. It fetches and installs what is missing: minutes for the first one,
// less than a second once all is cached. Errors: *MissingPackageError.
func Build(ctx context.Context, s Settings) (*Image, error) {
	lock, err := EmbeddedLock()
	if err != nil {
		return nil, err
	}
	return build(ctx, s, lock)
}

func build(ctx context.Context, s Settings, lock Lock) (*Image, error) {
	b, err := newBuilder(s, lock)
	if err != nil {
		return nil, err
	}
	parts, err := b.parts(ctx)
	if err != nil {
		return nil, err
	}
	return b.assemble(parts)
}

// part is a layer with its name.
type part struct {
	name string
	*layer
}

// builder makes one image.
type builder struct {
	Settings

	tag      name.Tag
	lock     Lock
	packages []Package
	runtime  string // names what package install pins
	relay    *entry // nil without one
	cache    layerCache
}

func newBuilder(s Settings, lock Lock) (*builder, error) {
	if s.Reference == "" {
		s.Reference = DefaultReference
	}
	if s.Architecture == "" {
		s.Architecture = runtime.GOARCH
	}
	if s.Mirror == "" {
		s.Mirror = DefaultMirror
	}
	if s.HTTP == nil {
		s.HTTP = &http.Client{}
	}
	if s.Cache == "" {
		dir, err := install.CacheDir()
		if err != nil {
			return nil, fmt.Errorf("find the cache directory: %w", err)
		}
		s.Cache = filepath.Join(dir, "image")
	}
	tag, err := name.NewTag(s.Reference)
	if err != nil {
		return nil, fmt.Errorf("the reference of the image: %w", err)
	}
	packages, err := lock.For(s.Architecture)
	if err != nil {
		return nil, err
	}
	b := &builder{Settings: s, tag: tag, lock: lock, packages: packages, cache: layerCache{dir: filepath.Join(s.Cache, "layers")}}
	if !s.WithoutRuntime || s.Relay != "" {
		if b.relay, err = relay(s.Relay, s.Architecture); err != nil {
			return nil, err
		}
	}
	if s.WithoutRuntime {
		return b, nil
	}
	if runtime.GOOS != "linux" || runtime.GOARCH != s.Architecture {
		return nil, fmt.Errorf("an image for linux/%s is made on such a machine, because npm installs OpenClaw's packages for the machine that it runs on; this one is %s/%s", s.Architecture, runtime.GOOS, runtime.GOARCH)
	}
	status := install.Inspect(s.Runtime)
	if status.Dir == "" {
		return nil, errors.New(status.Fix)
	}
	b.runtime = filepath.Base(status.Dir)
	return b, nil
}

// parts returns the layers, in their order: what changes least comes first.
func (b *builder) parts(ctx context.Context) ([]part, error) {
	for _, dir := range []string{b.packageDir(), b.cache.dir} {
		if err := removeInterrupted(dir); err != nil {
			return nil, err
		}
	}
	system, err := b.cached(ctx, "base", b.lock.digest(b.Architecture), func(put func(*tree) error) error { return b.base(ctx, put) })
	if err != nil {
		return nil, err
	}
	parts := []part{system}
	if !b.WithoutRuntime {
		more, err := b.runtimeParts(ctx)
		if err != nil {
			return nil, err
		}
		parts = append(parts, more...)
	}
	if len(b.Extra) > 0 {
		extra, err := b.extra()
		if err != nil {
			return nil, err
		}
		parts = append(parts, extra)
	}
	if b.relay == nil {
		return parts, nil
	}
	t := newTree()
	t.set(cleanPath(RelayPath), b.relay)
	last, err := newLayer(t, b.lock.Epoch)
	return append(parts, part{"relay", last}), err
}

func (b *builder) packageDir() string { return filepath.Join(b.Cache, "packages") }

// cached returns a layer from the cache, which is made first if it is missing. pins names
// all that it is made of.
func (b *builder) cached(ctx context.Context, name, pins string, make func(put func(*tree) error) error) (part, error) {
	sum := sha256.Sum256([]byte(layoutVersion + " " + pins + " " + b.lock.Epoch.String()))
	key := name + "-" + b.Architecture + "-" + hex.EncodeToString(sum[:])[:16]
	if l, ok := b.cache.find(key); ok {
		return part{name, l}, nil
	}
	began := time.Now()
	var made *layer
	err := make(func(t *tree) error {
		b.report("writing the layer %s", name)
		l, err := b.cache.put(ctx, key, t, b.lock.Epoch)
		made = l
		return err
	})
	if err != nil {
		return part{}, fmt.Errorf("make the layer %s: %w", name, err)
	}
	b.report("the layer %s is made, %.1f s", name, time.Since(began).Seconds())
	return part{name, made}, nil
}

func (b *builder) base(ctx context.Context, put func(*tree) error) error {
	m := mirror{url: b.Mirror, dir: b.packageDir(), http: b.HTTP}
	b.report("fetching %d packages", len(b.packages))
	var reports sync.Mutex
	err := m.fetchAll(ctx, b.packages, func(done, of int) {
		if reports.Lock(); done%25 == 0 || done == of {
			b.report("%d of %d packages", done, of)
		}
		reports.Unlock()
	})
	if err != nil {
		return err
	}
	b.report("unpacking the packages")
	unpacked, err := newBase(ctx, m, b.packages)
	if err != nil {
		return err
	}
	return errors.Join(put(unpacked.tree), unpacked.close())
}

// runtimeParts returns the layers of Node and OpenClaw, and installs both only if a layer is
// missing.
func (b *builder) runtimeParts(ctx context.Context) ([]part, error) {
	var parts []part
	for name, files := range map[string]func(install.Runtime) (*tree, error){"node": nodeTree, "openclaw": openClawTree} {
		made, err := b.cached(ctx, name, b.runtime, func(put func(*tree) error) error {
			installed, err := install.Install(ctx, b.Runtime)
			if err != nil {
				return err
			}
			t, err := files(installed)
			if err != nil {
				return err
			}
			return put(t)
		})
		if err != nil {
			return nil, err
		}
		parts = append(parts, made)
	}
	slices.SortFunc(parts, func(x, y part) int { return strings.Compare(x.name, y.name) })
	return parts, nil
}

func (b *builder) extra() (part, error) {
	t := newTree()
	for _, f := range b.Extra {
		info, err := os.Stat(f.Source)
		if err != nil {
			return part{}, fmt.Errorf("a file for the image: %w", err)
		}
		if err := t.add(cleanPath(f.Path), onDisk(f.Source, info.Size(), f.Mode&0o777)); err != nil {
			return part{}, err
		}
	}
	l, err := newLayer(t, b.lock.Epoch)
	return part{"extra", l}, err
}

// assemble puts the layers together.
func (b *builder) assemble(parts []part) (*Image, error) {
	i := &Image{Reference: b.Reference, Architecture: b.Architecture, tag: b.tag}
	additions := make([]mutate.Addendum, 0, len(parts))
	at := v1.Time{Time: b.lock.Epoch}
	for _, p := range parts {
		additions = append(additions, mutate.Addendum{Layer: p.layer, MediaType: p.media, History: v1.History{Created: at, CreatedBy: "agento image build: " + p.name}})
		i.Layers = append(i.Layers, Layer{Name: p.name, DiffID: p.facts.DiffID.String(), Sent: p.facts.Sent, Unpacked: p.facts.Unpacked})
	}
	built, err := mutate.Append(empty.Image, additions...)
	if err != nil {
		return nil, fmt.Errorf("put the layers together: %w", err)
	}
	config, err := built.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("put the layers together: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", b.Architecture, at
	config.Config = v1.Config{
		User:       fmt.Sprintf("%[1]d:%[1]d", User),
		Entrypoint: []string{RelayPath},
		Cmd:        []string{"run"},
		WorkingDir: Home,
		Env:        []string{"PATH=" + searchPath, "LANG=C.UTF-8"},
		Labels:     b.labels(),
	}
	if i.built, err = mutate.ConfigFile(built, config); err != nil {
		return nil, fmt.Errorf("set the configuration of the image: %w", err)
	}
	id, err := i.built.ConfigName()
	if err != nil {
		return nil, fmt.Errorf("name the image: %w", err)
	}
	i.ID = id.String()
	return i, nil
}

func (b *builder) labels() map[string]string {
	sum := sha256.Sum256([]byte(b.lock.digest(b.Architecture) + " " + b.runtime))
	labels := map[string]string{LabelLock: hex.EncodeToString(sum[:])[:16]}
	if !b.WithoutRuntime {
		labels[LabelOpenClaw], labels[LabelNode] = install.OpenClawVersion, install.NodeVersion
	}
	return labels
}

func (b *builder) report(format string, args ...any) {
	if b.Progress != nil {
		_, _ = fmt.Fprintf(b.Progress, "image: "+format+"\n", args...) // the image is made without it
	}
}
