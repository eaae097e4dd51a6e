package pool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// engine calls the API of a container engine, as far as Check needs it.
type engine struct{ http *http.Client }

// maxAnswer is the longest answer of an engine that is read, in bytes.
const maxAnswer = 16 << 20

// callTimeout is for each call of an engine.
const callTimeout = 20 * time.Second

func newEngine(dial func(ctx context.Context) (net.Conn, error)) *engine {
	return &engine{&http.Client{Timeout: callTimeout, Transport: &http.Transport{
		DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		ResponseHeaderTimeout: callTimeout, MaxIdleConns: 2, IdleConnTimeout: time.Minute,
	}}}
}

func (e *engine) close() { e.http.CloseIdleConnections() }

type engineVersion struct {
	Version    string
	APIVersion string `json:"ApiVersion"`
}

type engineInfo struct {
	SecurityOptions []string
	CgroupVersion   string
	MemoryLimit     bool
	PidsLimit       bool
	MemTotal        int64
	Name            string
}

type engineImage struct {
	RepoTags []string
}

// get decodes the answer to a request into v.
func (e *engine) get(ctx context.Context, path string, v any) error {
	return e.call(ctx, http.MethodGet, path, nil, func(body io.Reader) error { return json.NewDecoder(body).Decode(v) })
}

func (e *engine) call(ctx context.Context, method, path string, in any, read func(io.Reader) error) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://engine"+path, &body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := e.http.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	answer := io.LimitReader(res.Body, maxAnswer)
	if res.StatusCode >= http.StatusBadRequest {
		var said struct{ Message string }
		_ = json.NewDecoder(answer).Decode(&said) // the status is said in any case
		return fmt.Errorf("the engine answers %s %s with %d: %.300s", method, path, res.StatusCode, said.Message)
	}
	if read == nil {
		return nil
	}
	return read(answer)
}

// freeDisk returns how many bytes are free where the engine keeps containers: a container of
// the image asks.
func (e *engine) freeDisk(ctx context.Context, image string) (free int64, err error) {
	var made struct{ ID string }
	err = e.call(ctx, http.MethodPost, "/containers/create", map[string]any{
		"Image": image, "Entrypoint": []string{"df", "-B1", "--output=avail", "/"}, "Cmd": []string{}, "User": "10001:10001", "NetworkDisabled": true,
		"Labels":     map[string]string{"agento.check": "disk"},
		"HostConfig": map[string]any{"NetworkMode": "none", "ReadonlyRootfs": true, "CapDrop": []string{"ALL"}, "SecurityOpt": []string{"no-new-privileges"}, "PidsLimit": 16, "Memory": 64 << 20},
	}, func(body io.Reader) error { return json.NewDecoder(body).Decode(&made) })
	if err != nil {
		return 0, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		err = errors.Join(err, e.call(ctx, http.MethodDelete, "/containers/"+made.ID+"?force=true", nil, nil))
	}()
	if err := e.call(ctx, http.MethodPost, "/containers/"+made.ID+"/start", nil, nil); err != nil {
		return 0, err
	}
	if err := e.call(ctx, http.MethodPost, "/containers/"+made.ID+"/wait", nil, func(body io.Reader) error { _, err := io.Copy(io.Discard, body); return err }); err != nil {
		return 0, err
	}
	var text []byte
	err = e.call(ctx, http.MethodGet, "/containers/"+made.ID+"/logs?stdout=true", nil, func(body io.Reader) (err error) { text, err = io.ReadAll(body); return err })
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Fields(string(text)) { // frames have headers that are no digits
		if n, err := strconv.ParseInt(strings.TrimFunc(line, func(r rune) bool { return r < '0' || r > '9' }), 10, 64); err == nil {
			free = max(free, n)
		}
	}
	if free == 0 {
		return 0, fmt.Errorf("df in a container said %.100q", text)
	}
	return free, nil
}
