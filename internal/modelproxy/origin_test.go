package modelproxy_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/modelproxy"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/vault"
)

// own are the origins of the providers.
var own = map[provider.Name]provider.Origin{
	"anthropic": "https://api.anthropic.com", "openai": "https://api.openai.com", "google": "https://generativelanguage.googleapis.com",
}

// spellings are base URLs by their origin. Origins differ in the scheme, the host or the
// port alone.
var spellings = map[provider.Origin][]string{
	"http://one.test":        {"http://one.test", "HTTP://ONE.test:80/v1/", "http://one.test/proxy/v1beta"},
	"https://one.test":       {"https://one.test", "https://One.Test:443/v1"},
	"http://one.test:8080":   {"http://one.test:8080/v1", "http://one.test:8080"},
	"http://two.test":        {"http://two.test/", "http://two.test:80"},
	"https://api.openai.com": {"https://api.openai.com/v1", "https://API.OpenAI.com:443"},
}

var secretNames = map[provider.Name]provider.SecretName{
	"anthropic": provider.AnthropicKey, "openai": provider.OpenAIKey, "google": provider.GoogleKey,
}

var paths = map[provider.Name]string{
	"anthropic": "/anthropic/v1/messages", "openai": "/openai/v1/chat/completions", "google": "/google/v1beta/models/m:generateContent",
}

// internet is an HTTP server for each origin. It records the keys that each has seen.
type internet struct {
	addresses map[string]string // of the servers, by the address that is dialled
	mu        sync.Mutex
	seen      map[string][]provider.Origin // by key; guarded by mu
}

var testKey = regexp.MustCompile(`sk-ant-key-[0-9]+-`)

func newInternet(t *testing.T) *internet {
	n := &internet{addresses: map[string]string{}, seen: map[string][]provider.Origin{}}
	for _, origin := range slices.Concat(slices.Collect(maps.Keys(spellings)), slices.Collect(maps.Values(own))) {
		scheme, host, _ := strings.Cut(string(origin), "://")
		server := httptest.NewUnstartedServer(n.handler(origin))
		address := net.JoinHostPort(host, map[string]string{"http": "80", "https": "443"}[scheme])
		if strings.Contains(host, ":") {
			address = host
		}
		if scheme == "https" {
			server.StartTLS()
		} else {
			server.Start()
		}
		t.Cleanup(server.Close)
		n.addresses[address] = server.Listener.Addr().String()
	}
	return n
}

// handler answers with the origin that was called.
func (n *internet) handler(origin provider.Origin) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dump, _ := httputil.DumpRequest(r, true)
		n.mu.Lock()
		for _, key := range testKey.FindAllString(string(dump), -1) {
			n.seen[key] = append(n.seen[key], origin)
		}
		n.mu.Unlock()
		w.Header().Set("X-Origin", string(origin))
		_, _ = io.WriteString(w, "{}")
	})
}

func (n *internet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, n.addresses[strings.ToLower(address)])
}

// heldKey is a key as the test has set it.
type heldKey struct {
	value  string
	origin provider.Origin
}

type heldKeys map[provider.Name]heldKey

// heldAgent is what an agent should have, as the test has set it.
type heldAgent struct {
	id       identity.AgentID
	token    vault.Secret
	provider provider.Name
	base     provider.Origin // of config.baseUrl; empty: none
	inSwarm  bool
	keys     heldKeys
}

func (a heldAgent) endpoint(name provider.Name) provider.Origin {
	if a.base != "" && (a.provider == "" || a.provider == name) {
		return a.base
	}
	return own[name]
}

// world is the test's account of who has which key, beside the real services.
type world struct {
	*agenttest.Env
	t       *testing.T
	random  *rand.Rand
	proxy   string
	net     *internet
	agents  []*heldAgent
	swarm   identity.SwarmID
	shared  heldKeys
	numbers int
	given   map[string]provider.Origin // each key that was ever set, and the origin that it is for
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		Env: agenttest.New(t, nil), t: t, net: newInternet(t), random: rand.New(rand.NewPCG(seed, 0)),
		shared: heldKeys{}, given: map[string]provider.Origin{},
	}
	proxy := modelproxy.New(modelproxy.Settings{Resolver: w.Gateways})
	proxy.DialWith(w.net.dial, &tls.Config{InsecureSkipVerify: true})
	server := httptest.NewServer(proxy)
	t.Cleanup(func() {
		server.Close()
		proxy.Close()
	})
	w.proxy = server.URL
	w.swarm = w.CreateSwarm(nil)
	for i := range 2 {
		w.create(fmt.Sprintf("agent %d", i))
	}
	return w
}

func pick[K cmp.Ordered, V any](w *world, m map[K]V) K {
	keys := slices.Sorted(maps.Keys(m))
	return keys[w.random.IntN(len(keys))]
}

func (w *world) pickProvider() provider.Name {
	return pick(w, own)
}

// pickBase returns the origin of an endpoint, and a base URL of it; both may be empty.
func (w *world) pickBase() (provider.Origin, string) {
	if w.random.IntN(3) == 0 {
		return "", ""
	}
	origin := pick(w, spellings)
	return origin, spellings[origin][w.random.IntN(len(spellings[origin]))]
}

// newKeys returns new keys for some providers, as a request and as they are held.
func (w *world) newKeys(endpoint func(provider.Name) provider.Origin) (map[string]string, heldKeys) {
	request, held := map[string]string{}, heldKeys{}
	for range 1 + w.random.IntN(2) {
		name := w.pickProvider()
		w.numbers++
		k := heldKey{fmt.Sprintf("sk-ant-key-%d-", w.numbers), endpoint(name)}
		w.given[k.value] = k.origin
		request[string(secretNames[name])], held[name] = k.value, k
	}
	return request, held
}

// accepted reports whether a request was accepted. One that was refused must change
// nothing: its keys are for nobody.
func (w *world) accepted(err error, held heldKeys) bool {
	w.t.Helper()
	if err == nil {
		return true
	}
	if !fault.Is(err, fault.Invalid) {
		w.t.Fatal(err)
	}
	for _, k := range held {
		w.given[k.value] = "nobody"
	}
	return false
}

func (w *world) create(name string) {
	a := &heldAgent{}
	base, baseURL := w.pickBase()
	in := client.CreateAgentRequest{Name: name, Config: map[string]any{}}
	if a.base = base; base != "" {
		in.Config["baseUrl"] = baseURL
	}
	in.Secrets, a.keys = w.newKeys(a.endpoint)
	accepted, err := w.Agents.Create(w.Context(), w.Actor, in)
	w.Must(err)
	_, _ = w.Agents.AwaitRunning(w.Context(), accepted) // its start makes its token; without a key it fails
	a.id, a.token = accepted.ID, w.Token(accepted.Agent, "model")
	w.agents = append(w.agents, a)
}

// patch changes some of an agent's endpoint, provider, swarm and keys in one request.
func (w *world) patch(a *heldAgent) {
	after, in := *a, client.UpdateAgentRequest{Config: map[string]any{}}
	if w.random.IntN(3) > 0 {
		base, baseURL := w.pickBase()
		if after.base = base; base != "" {
			in.Config["baseUrl"] = baseURL
		} else {
			in.Config["baseUrl"] = nil
		}
	}
	switch w.random.IntN(4) {
	case 0:
		after.provider = w.pickProvider()
		in.Config["llmProvider"] = string(after.provider)
	case 1:
		after.provider, in.Config["llmProvider"] = "", nil
	}
	if w.random.IntN(3) == 0 {
		after.inSwarm = !a.inSwarm
		in.SwarmID = client.Optional[string]{Set: true, Null: !after.inSwarm}
		if after.inSwarm {
			in.SwarmID.Value = string(w.swarm)
		}
	}
	held := heldKeys{}
	if w.random.IntN(3) == 0 {
		in.Secrets, held = w.newKeys(after.endpoint)
	}
	if _, err := w.Agents.Update(w.Context(), w.Actor, a.id, in); w.accepted(err, held) {
		after.keys = maps.Clone(a.keys)
		maps.Copy(after.keys, held)
		*a = after
	}
}

func (w *world) setSecrets(a *heldAgent) {
	var in client.SecretsRequest
	var held heldKeys
	in.Secrets, held = w.newKeys(a.endpoint)
	deleted := w.pickProvider()
	if _, both := held[deleted]; !both && w.random.IntN(2) == 0 {
		in.DeleteSecrets = []string{string(secretNames[deleted])}
	}
	if _, err := w.Agents.SetSecrets(w.Context(), w.Actor, a.id, in); w.accepted(err, held) {
		if in.DeleteSecrets != nil {
			delete(a.keys, deleted)
		}
		maps.Copy(a.keys, held)
	}
}

func (w *world) setSwarmSecrets() {
	var c swarm.SecretChange
	var base provider.Origin
	base, c.BaseURL = w.pickBase()
	request, held := w.newKeys(func(name provider.Name) provider.Origin {
		if base != "" {
			return base
		}
		return own[name]
	})
	c.Set = map[string]vault.Secret{}
	for name, value := range request {
		c.Set[name] = vault.NewSecret(value)
	}
	deleted := w.pickProvider()
	if _, both := held[deleted]; !both && w.random.IntN(2) == 0 {
		c.Remove = []string{string(secretNames[deleted])}
		delete(w.shared, deleted)
	}
	_, err := w.Swarms.SetSecrets(w.Context(), w.Actor, w.swarm, c)
	w.Must(err)
	maps.Copy(w.shared, held)
}

// key returns the key that the agent has for a provider, and whether it is for the
// endpoint that the agent calls.
func (w *world) key(a *heldAgent, name provider.Name) (heldKey, bool) {
	k, ok := a.keys[name]
	if !ok && a.inSwarm {
		k, ok = w.shared[name]
	}
	return k, ok && k.origin == a.endpoint(name)
}

// call calls a provider as an agent's gateway does.
func (w *world) call(a *heldAgent, name provider.Name) (status int, origin, body string) {
	req, err := http.NewRequestWithContext(w.Context(), http.MethodPost, w.proxy+paths[name], strings.NewReader("{}"))
	w.Must(err)
	req.Header.Set("X-Api-Key", a.token.Reveal())
	res, err := http.DefaultClient.Do(req)
	w.Must(err)
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	w.Must(err)
	return res.StatusCode, res.Header.Get("X-Origin"), string(text)
}

// check calls every provider as each agent, and compares the answers and what a reader
// of the agent is told.
func (w *world) check() {
	w.t.Helper()
	for _, a := range w.agents {
		hasKey := false
		for name := range own {
			k, usable := w.key(a, name)
			hasKey = hasKey || usable && (a.provider == "" || a.provider == name)
			status, origin, body := w.call(a, name)
			if usable && (status != http.StatusOK || origin != string(k.origin) || !slices.Contains(w.net.originsOf(k.value), k.origin)) {
				w.t.Errorf("%s: a call with the key for %s: %d from %q: %s", name, k.origin, status, origin, body)
			}
			if !usable && (status != http.StatusBadRequest || !strings.Contains(body, openclaw.CallFailed)) {
				w.t.Errorf("%s: a call without a key for %s: %d from %q: %s", name, a.endpoint(name), status, origin, body)
			}
		}
		v, err := w.Agents.View(w.Context(), agenttest.Account, a.id)
		w.Must(err)
		if v.NeedsKey == hasKey || hasKey == strings.Contains(v.LastError, "PUT /v1/") || !hasKey && v.ErrorCategory != agent.CategoryCredentials {
			w.t.Errorf("an agent that has a key for its endpoint: %v; needsKey is %v, lastError %q (%s)", hasKey, v.NeedsKey, v.LastError, v.ErrorCategory)
		}
	}
}

func (n *internet) originsOf(key string) []provider.Origin {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.seen[key])
}

// TestKeyIsSeenOnlyByItsOrigin makes requests in any order that change endpoints,
// providers, swarms and keys, while agents call their models all the time.
func TestKeyIsSeenOnlyByItsOrigin(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			stop := w.callAllTheTime()
			for range 60 {
				a := w.agents[w.random.IntN(len(w.agents))]
				switch w.random.IntN(6) {
				case 0:
					w.setSecrets(a)
				case 1:
					w.setSwarmSecrets()
				default:
					w.patch(a)
				}
				w.check()
			}
			stop()
			w.net.mu.Lock()
			defer w.net.mu.Unlock()
			for key, origins := range w.net.seen {
				for _, origin := range origins {
					if origin != w.given[key] {
						t.Errorf("%s has seen a key that was given for %s", origin, w.given[key])
					}
				}
			}
			if len(w.net.seen) < 10 {
				t.Errorf("only %d keys were seen at all", len(w.net.seen))
			}
		})
	}
}

// callAllTheTime calls models as the agents until stop, whatever the answers are.
func (w *world) callAllTheTime() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var calls sync.WaitGroup
	for _, a := range w.agents {
		token := a.token.Reveal()
		calls.Go(func() {
			for ctx.Err() == nil {
				for _, path := range paths {
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.proxy+path, strings.NewReader("{}"))
					if err != nil {
						return
					}
					req.Header.Set("X-Api-Key", token)
					if res, err := http.DefaultClient.Do(req); err == nil {
						_ = res.Body.Close()
					}
				}
			}
		})
	}
	stop = func() {
		cancel()
		calls.Wait()
	}
	w.t.Cleanup(stop)
	return stop
}
