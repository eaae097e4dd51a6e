package modelproxy

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/redact"
	"agento.host/agento/internal/vault"
)

const (
	// checkTimeout bounds a check of a key: a person waits for it.
	checkTimeout = 15 * time.Second
	// maxModelList limits how much of a list of models is read, in bytes. Routers list
	// hundreds of models with descriptions, half a megabyte of them.
	maxModelList = 4 << 20
	// maxModels limits how many models a check returns.
	maxModels = 500
	// anthropicVersion is the header that Anthropic's API requires.
	anthropicVersion = "2023-06-01"
)

// NotChecked is the cause of a check whose endpoint offers nothing that costs nothing: the key
// may be good.
const NotChecked Cause = "not_checked"

// KeyCheck is a key that is to be checked before an agent has it.
type KeyCheck struct {
	Provider provider.Name
	Key      vault.Secret
	BaseURL  string // empty: the provider's own endpoint
}

// KeyChecked is the result of a check.
type KeyChecked struct {
	OK       bool
	Cause    Cause    // why not
	Message  string   // a sentence that says why not
	Provider string   // the provider's own words, without the key; empty if it said nothing
	Models   []string // that the provider lists for the key, sorted
}

// Check asks a provider for its list of models with a key. It goes the way of the agents' calls,
// through the guard of private addresses, and keeps nothing. Redirects are not followed.
// Faults: Invalid, for a key or an endpoint that no agent could have.
func (p *Proxy) Check(ctx context.Context, c KeyCheck) (KeyChecked, error) {
	offered, ok := provider.Find(c.Provider)
	if !ok {
		return KeyChecked{}, fault.Fields{"provider": "must be anthropic, openai or google"}.Err()
	}
	a := &api{offered, wires[offered.Name]}
	if err := p.checkInput(a, c); err != nil {
		return KeyChecked{}, err
	}
	if c.BaseURL == "" && !p.demoKey.Empty() && c.Key.Reveal() == p.demoKey.Reveal() {
		c.BaseURL = p.demoURL
	}
	target, err := a.target(c.BaseURL, a.Version+"/models")
	if err != nil {
		return KeyChecked{}, fault.Fields{"baseUrl": "must be a URL like https://host/path"}.Err()
	}
	switch a.Name {
	case provider.Anthropic:
		target.RawQuery = "limit=1000"
	case provider.Google:
		target.RawQuery = "pageSize=1000"
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return p.listModels(ctx, a, target, c)
}

func (p *Proxy) checkInput(a *api, c KeyCheck) error {
	problems := fault.Fields{}
	key := c.Key.Reveal()
	if problem := a.Secret.CheckValue(key); problem != "" {
		problems.Add("key", "%s", problem)
	} else if problem := a.Secret.CheckKey(key, c.BaseURL); problem != "" {
		problems.Add("key", "%s", problem)
	}
	if c.BaseURL != "" {
		if err := p.guard.CheckURL(c.BaseURL); err != nil {
			problems.Add("baseUrl", "%s", err.Error())
		}
	}
	return problems.Err()
}

func (p *Proxy) listModels(ctx context.Context, a *api, target *url.URL, c KeyCheck) (KeyChecked, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return KeyChecked{}, fault.Fields{"baseUrl": "must be a URL like https://host/path"}.Err()
	}
	a.setKey(req.Header, strings.TrimSpace(c.Key.Reveal()))
	req.Header.Set("Accept", "application/json")
	if a.Name == provider.Anthropic {
		req.Header.Set("Anthropic-Version", anthropicVersion)
	}
	secret := redact.New(c.Key)
	res, err := p.transport.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return KeyChecked{}, ctx.Err() // the caller has gone
		}
		return notReached(target.Hostname(), secret, err), nil
	}
	defer func() { _ = res.Body.Close() }()
	if err := decodeBody(res); err != nil {
		return KeyChecked{Cause: NotAModel, Message: "The model endpoint at " + target.Hostname() + " answers in an encoding that was not asked for. Is this the address of its API?"}, nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxModelList+1))
	if err != nil {
		return notReached(target.Hostname(), secret, err), nil
	}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	out := readModels(target.Hostname(), res, kind, body)
	out.Message, out.Provider = secret.Text(out.Message), secret.Text(out.Provider)
	for i := range out.Models {
		out.Models[i] = secret.Text(out.Models[i])
	}
	return out, nil
}

// notReached is the result of a check whose call got no answer.
func notReached(host string, secret redact.Secret, err error) KeyChecked {
	out := KeyChecked{Cause: Unreachable, Message: "The model provider at " + host + " cannot be reached."}
	var refused *netguard.Refused
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &refused):
		out.Cause, out.Message = Refused, "The model endpoint "+host+" is not allowed: "+refused.Error()+"."
	case errors.Is(err, context.DeadlineExceeded):
		out.Cause, out.Message = TimedOut, fmt.Sprintf("The model provider at %s did not answer within %d s.", host, int(checkTimeout.Seconds()))
	case errors.As(err, &dns) && dns.IsNotFound:
		out.Message = "The model provider at " + host + " cannot be reached: its name cannot be found."
	case errors.As(err, &certificate):
		out.Message = "The model provider at " + host + " cannot be reached: its certificate is not valid for this name."
	}
	out.Message = secret.Text(out.Message)
	return out
}

// readModels reads the answer to a request for the list of models.
func readModels(host string, res *http.Response, kind string, body []byte) KeyChecked {
	at := "The model provider at " + host
	status := res.StatusCode
	switch {
	case status >= 300 && status < 400:
		return KeyChecked{Cause: NotAModel, Message: "The model endpoint at " + host + " redirects, which is not followed. Use the final address."}
	case status >= 400:
		reported := parseError(body[:min(len(body), maxErrorBody)])
		f := classify(endpoint{host: host}, status, res.Header, reported)
		out := KeyChecked{Cause: f.Cause, Provider: reported.reason()}
		switch f.Cause {
		case KeyRefused:
			out.Message = at + " refuses this key."
		case OutOfCredit:
			out.Message = "The account of this key at " + host + " has no credit left."
		case RateLimited, Overloaded:
			out.Message = at + " limits calls at the moment, so the key could not be checked. Try again later."
		case UnknownModel:
			out.Cause, out.Message = NotChecked, "The endpoint at "+host+" has no list of models, so the key cannot be checked without a message to a model."
		case ProviderFailed:
			out.Message = fmt.Sprintf("%s failed (HTTP %d), so the key could not be checked. Try again later.", at, status)
		default:
			out.Message = fmt.Sprintf("%s refused the request (HTTP %d).", at, status)
		}
		return out
	case len(body) > maxModelList:
		return KeyChecked{Cause: NotChecked, Message: "The list of models of " + host + " is too long to be read, so the key was not checked."}
	}
	models, ok := modelsIn(body)
	if !ok || kind == "text/html" {
		return KeyChecked{Cause: NotAModel, Message: at + " does not answer as a model's API does. Is this the address of its API?"}
	}
	return KeyChecked{OK: true, Models: models}
}

// modelsIn returns the models of a list in the form of any of the providers.
func modelsIn(body []byte) ([]string, bool) {
	type entry struct {
		ID      string   `json:"id"`
		Name    string   `json:"name"`
		Methods []string `json:"supportedGenerationMethods"` // Google's
	}
	var list struct {
		Data   []entry `json:"data"`
		Models []entry `json:"models"`
	}
	if json.Unmarshal(body, &list) != nil || list.Data == nil && list.Models == nil {
		return nil, false
	}
	models := []string{}
	for _, e := range append(list.Data, list.Models...) {
		name := e.ID
		if name == "" {
			name = strings.TrimPrefix(e.Name, "models/")
		}
		if name = cleanText(name, 128); name == "" || e.Methods != nil && !slices.Contains(e.Methods, "generateContent") {
			continue
		}
		models = append(models, name)
	}
	slices.Sort(models)
	models = slices.Compact(models)
	return models[:min(len(models), maxModels)], true
}
