package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/pool/sshlink"
	"agento.host/agento/internal/vault"
)

// Server is a pool server.
type Server struct {
	Name      string    `json:"name"`
	SSH       string    `json:"ssh"` // user@host[:port]; empty: the machine of agento itself
	Socket    string    `json:"socket"`
	Regions   []string  `json:"regions"` // that it serves
	Memory    int64     `json:"memory"`  // bytes; 0: no limit
	Agents    int       `json:"agents"`  // 0: no limit
	State     string    `json:"state"`
	HostKeys  []string  `json:"hostKeys"` // fingerprints
	PublicKey string    `json:"publicKey"`
	NewKey    string    `json:"newKey,omitempty"`  // replaces PublicKey once it has worked
	Problem   string    `json:"problem,omitempty"` // why nothing is done with it
	CreatedAt time.Time `json:"createdAt,omitzero"`
	ReachedAt time.Time `json:"reachedAt,omitzero"` // when its engine was last seen to answer
	DiskFree  int64     `json:"diskFree"`           // bytes; -1: unknown

	Link *ServerLink `json:"link,omitempty"` // nil: no server of agento runs, or there is no connection
}

// ServerLink is the connection of the running server to a pool server.
type ServerLink struct {
	Connected       bool      `json:"connected"`
	Since           time.Time `json:"since,omitzero"`
	RoundTripMicros int64     `json:"roundTripMicros"`
	Up              bool      `json:"up"` // its engine answers
	Error           string    `json:"error,omitempty"`
}

// HostKey is a host key that a server shows.
type HostKey struct {
	Kind        string `json:"kind"`
	Fingerprint string `json:"fingerprint"`
	Key         string `json:"key"` // as known_hosts has it
}

// NewServer is a request for a pool server.
type NewServer struct {
	Name     string   `json:"name"`
	SSH      string   `json:"ssh"`
	Socket   string   `json:"socket"` // empty: Docker's
	Regions  []string `json:"regions"`
	Memory   int64    `json:"memory"`   // bytes; 0: no limit
	Agents   int      `json:"agents"`   // 0: no limit
	HostKeys []string `json:"hostKeys"` // that were confirmed, as HostKey.Key
	Identity string   `json:"identity"` // the private key to log in with; empty: one is made
}

// ServerFinding is one thing that a server needs, and whether it has it.
type ServerFinding struct {
	What    string   `json:"what"`
	OK      bool     `json:"ok"`
	Warning bool     `json:"warning"` // if not OK: agents run nevertheless
	State   string   `json:"state"`
	Repair  []string `json:"repair"`
}

// serverRoutes are the routes of pool servers.
func (s *server) serverRoutes() map[string]func(r *http.Request) (any, error) {
	return map[string]func(r *http.Request) (any, error){
		"GET /servers":          s.listServers,
		"POST /servers":         s.addServer,
		"GET /server":           s.showServer,
		"PATCH /server":         s.cordonServer,
		"DELETE /server":        s.removeServer,
		"POST /server/key":      s.rotateServerKey,
		"POST /server/check":    s.checkServer,
		"GET /server/host-keys": s.scanHostKeys,
		"PUT /server/host-keys": s.confirmHostKeys,
	}
}

func (s *server) listServers(r *http.Request) (any, error) {
	all, err := s.Servers.List(r.Context())
	shown := make([]Server, len(all))
	for i, n := range all {
		shown[i] = s.serverOf(n, all)
	}
	return shown, err
}

func (s *server) serverOf(n pool.Server, all []pool.Server) Server {
	shown := Server{
		Name: n.Name, SSH: n.SSH(), Socket: n.Socket, Regions: append([]string{}, pool.Serves(n, all)...), Memory: n.Memory, Agents: n.Agents, State: string(n.State),
		HostKeys: sshlink.Fingerprints(n.HostKeys), PublicKey: n.PublicKey, NewKey: n.NewKey, Problem: n.Problem, CreatedAt: n.CreatedAt, ReachedAt: n.ReachedAt, DiskFree: n.DiskFree,
	}
	if s.ServerLinks == nil {
		return shown
	}
	if status, ok := s.ServerLinks.Status(n.Name); ok {
		shown.Link = &ServerLink{Connected: status.Connected, Since: status.Since, RoundTripMicros: status.RoundTrip.Microseconds(), Up: status.Up()}
		switch {
		case status.LastError != nil:
			shown.Link.Error = status.LastError.Error()
		case status.EngineError != nil:
			shown.Link.Error = status.EngineError.Error()
		}
		if status.EngineAt.After(shown.ReachedAt) {
			shown.ReachedAt = status.EngineAt
		}
	}
	return shown
}

// shown returns a server after a change.
func (s *server) shown(ctx context.Context, n pool.Server, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	all, err := s.Servers.List(ctx)
	return s.serverOf(n, all), err
}

func (s *server) showServer(r *http.Request) (any, error) {
	n, err := s.Servers.Find(r.Context(), r.URL.Query().Get("name"))
	return s.shown(r.Context(), n, err)
}

func (s *server) addServer(r *http.Request) (any, error) {
	var in NewServer
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, err
	}
	keys, err := parseHostKeys(in.HostKeys)
	if err != nil {
		return nil, err
	}
	n, err := s.Servers.Add(r.Context(), identity.ByOperator(""), pool.NewServer{
		Name: in.Name, Login: in.SSH, Socket: in.Socket, Regions: in.Regions, Memory: in.Memory, Agents: in.Agents, HostKeys: keys, Identity: vault.NewSecret(in.Identity),
	})
	return s.shown(r.Context(), n, err)
}

func (s *server) cordonServer(r *http.Request) (any, error) {
	state := pool.State(r.URL.Query().Get("state"))
	if state != pool.Active && state != pool.Cordoned {
		return nil, fault.New(fault.Invalid, "state must be active or cordoned.")
	}
	n, err := s.Servers.Cordon(r.Context(), identity.ByOperator(""), r.URL.Query().Get("name"), state == pool.Cordoned)
	return s.shown(r.Context(), n, err)
}

func (s *server) removeServer(r *http.Request) (any, error) {
	n, err := s.Servers.Remove(r.Context(), identity.ByOperator(""), r.URL.Query().Get("name"))
	return s.shown(r.Context(), n, err)
}

func (s *server) rotateServerKey(r *http.Request) (any, error) {
	var in NewServer
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, err
	}
	n, err := s.Servers.RotateKey(r.Context(), identity.ByOperator(""), r.URL.Query().Get("name"), vault.NewSecret(in.Identity))
	return s.shown(r.Context(), n, err)
}

func (s *server) checkServer(r *http.Request) (any, error) {
	found, err := s.Servers.Check(r.Context(), r.URL.Query().Get("name"))
	all := make([]ServerFinding, len(found))
	for i, f := range found {
		all[i] = ServerFinding{What: f.What, OK: f.OK, Warning: f.Warning, State: f.State, Repair: append([]string{}, f.Repair...)}
	}
	return all, err
}

func (s *server) scanHostKeys(r *http.Request) (any, error) {
	keys, err := s.Servers.HostKeys(r.Context(), r.URL.Query().Get("ssh"))
	fingerprints := sshlink.Fingerprints(keys)
	all := make([]HostKey, len(keys))
	for i, k := range keys {
		all[i] = HostKey{Kind: k.Type(), Fingerprint: fingerprints[i], Key: pool.FormatHostKeys(keys[i : i+1])}
	}
	return all, err
}

func (s *server) confirmHostKeys(r *http.Request) (any, error) {
	var in NewServer
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, err
	}
	keys, err := parseHostKeys(in.HostKeys)
	if err != nil {
		return nil, err
	}
	n, err := s.Servers.ConfirmHostKeys(r.Context(), identity.ByOperator(""), r.URL.Query().Get("name"), keys)
	return s.shown(r.Context(), n, err)
}

func parseHostKeys(lines []string) ([]ssh.PublicKey, error) {
	return pool.ParseHostKeys(strings.Join(lines, "\n"))
}

// Servers lists the pool servers: local first, then by name.
func (c *Client) Servers(ctx context.Context) (all []Server, err error) {
	return all, c.call(ctx, http.MethodGet, "/servers", nil, &all)
}

// Server returns a pool server.
func (c *Client) Server(ctx context.Context, name string) (s Server, err error) {
	return s, c.call(ctx, http.MethodGet, "/server?"+url.Values{"name": {name}}.Encode(), nil, &s)
}

// HostKeys returns the host keys that the server of a login shows, for somebody to confirm.
func (c *Client) HostKeys(ctx context.Context, login string) (all []HostKey, err error) {
	return all, c.call(ctx, http.MethodGet, "/server/host-keys?"+url.Values{"ssh": {login}}.Encode(), nil, &all)
}

// AddServer adds a pool server. Its PublicKey belongs into authorized_keys there.
func (c *Client) AddServer(ctx context.Context, in NewServer) (s Server, err error) {
	return s, c.call(ctx, http.MethodPost, "/servers", in, &s)
}

// CordonServer keeps further agents from a pool server, or lets them come again.
func (c *Client) CordonServer(ctx context.Context, name string, on bool) (s Server, err error) {
	state := pool.Active
	if on {
		state = pool.Cordoned
	}
	return s, c.call(ctx, http.MethodPatch, "/server?"+url.Values{"name": {name}, "state": {string(state)}}.Encode(), nil, &s)
}

// RotateServerKey makes another key for a pool server, or takes a private key. The former is
// kept until the new one has worked.
func (c *Client) RotateServerKey(ctx context.Context, name, private string) (s Server, err error) {
	return s, c.call(ctx, http.MethodPost, "/server/key?"+url.Values{"name": {name}}.Encode(), NewServer{Identity: private}, &s)
}

// CheckServer looks what a pool server lacks.
func (c *Client) CheckServer(ctx context.Context, name string) (all []ServerFinding, err error) {
	return all, c.call(ctx, http.MethodPost, "/server/check?"+url.Values{"name": {name}}.Encode(), nil, &all)
}

// ConfirmHostKeys replaces the host keys that a pool server may have.
func (c *Client) ConfirmHostKeys(ctx context.Context, name string, keys []string) (s Server, err error) {
	return s, c.call(ctx, http.MethodPut, "/server/host-keys?"+url.Values{"name": {name}}.Encode(), NewServer{HostKeys: keys}, &s)
}

// RemoveServer removes a pool server without agents.
func (c *Client) RemoveServer(ctx context.Context, name string) (s Server, err error) {
	return s, c.call(ctx, http.MethodDelete, "/server?"+url.Values{"name": {name}}.Encode(), nil, &s)
}
