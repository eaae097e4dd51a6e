package dashboard

import (
	"cmp"
	"strconv"
	"time"

	"agento.host/agento/client"
)

// keysPerPage keeps the list short enough to be read.
const keysPerPage = 50

// keyList is the data of the list of keys.
type keyList struct {
	Keys  []client.Key
	Pages pager
}

func (s *Server) keyList(v *visit) error {
	p := v.page(keysPerPage)
	found, err := v.API.ListKeys(v.Context(), p.Size, p.Offset())
	if err != nil {
		return err
	}
	p.Total = found.Pagination.Total
	return v.Render("keys", "API keys", keyList{Keys: found.Data, Pages: p})
}

// keyState returns whether a key can be used, in words.
func keyState(k client.Key) state {
	switch {
	case k.RevokedAt != nil:
		return state{"revoked", "off"}
	case k.ExpiresAt != nil && !k.ExpiresAt.After(time.Now()):
		return state{"expired", "bad"}
	case k.ExpiresAt != nil && k.ExpiresAt.Before(time.Now().Add(7*24*time.Hour)):
		return state{"ends soon", "warn"}
	}
	return state{"valid", "good"}
}

// noRateLimit is the rate limit of a key without one.
const noRateLimit = 1<<31 - 1

// rateText returns a rate limit as people read it.
func rateText(limit int) string {
	if limit == noRateLimit {
		return "no limit"
	}
	return number(limit) + " a minute"
}

// scopeChoice is a scope with what it is for.
type scopeChoice struct{ Name, Text string }

// keyScopes are the scopes of keys, and what a key with each may do.
func keyScopes() []scopeChoice {
	return []scopeChoice{
		{"agents:read", "see agents, their documents, usage and the audit log"},
		{"agents:write", "create, change, start, stop and delete agents, set their secrets and chat widgets"},
		{"chat", "write to agents and read conversations, as a guest: without shell and files of the agent"},
		{"chat:owner", "write to agents as their owner: the agent may use its shell and change its files. Needs chat"},
		{"knowledge:read", "search and list knowledge"},
		{"knowledge:write", "add, change and delete knowledge"},
		{"logs", "read the logs of agents"},
		{"skills", "install, upload and remove skills"},
		{"swarms:read", "see swarms"},
		{"swarms:write", "create, change and delete swarms and their shared keys"},
		{"account:admin", "make, change and revoke API keys"},
	}
}

// keyPage is the data of the pages of one key.
type keyPage struct {
	Form   *form
	Scopes []scopeChoice
	Ends   []choice
	Key    client.Key // of one that exists
	Secret string     // shown once
	URL    string     // of the API
}

// Has reports whether a scope is chosen in the form.
func (p keyPage) Has(scope string) bool {
	for _, chosen := range p.Form.All("scope") {
		if chosen == scope {
			return true
		}
	}
	return false
}

func keyEnds() []choice {
	return []choice{{"never", "never"}, {"7", "in 7 days"}, {"30", "in 30 days"}, {"90", "in 90 days"}, {"365", "in a year"}, {"date", "on a day that I choose"}}
}

func (s *Server) newKey(v *visit) error {
	f := newForm("rateLimit", "120", "ends", "90")
	f.values["scope"] = []string{"chat"}
	return v.Render("keynew", "New API key", keyPage{Form: f, Scopes: keyScopes(), Ends: keyEnds()})
}

// keyFields map the fields of the API to those of the form.
func keyFields() map[string]string {
	return map[string]string{"scopes": "scope", "expiresAt": "ends"}
}

func (s *Server) createKey(v *visit) error {
	f := v.Form()
	if f.Value("label") == "" {
		f.Wrong("label", "Say what the key is for, such as the name of the server that will have it.")
	}
	if len(f.All("scope")) == 0 {
		f.Wrong("scope", "Choose at least one.")
	}
	in := client.CreateKeyRequest{Label: f.Value("label"), Scopes: f.All("scope"), RateLimit: keyRate(f), ExpiresAt: keyEnd(f)}
	if !f.Valid() {
		return v.RenderRefused("keynew", "New API key", keyPage{Form: f, Scopes: keyScopes(), Ends: keyEnds()})
	}
	made, err := v.API.CreateKey(v.Context(), in)
	if f.Refused(err, keyFields()) {
		return v.RenderRefused("keynew", "New API key", keyPage{Form: f, Scopes: keyScopes(), Ends: keyEnds()})
	}
	if err != nil {
		return err
	}
	return v.Render("keymade", "New API key", keyPage{Key: made.Key, Secret: made.Secret, URL: v.address()})
}

// keyRate returns the rate limit that was typed; nil: it is as it was, or the usual one.
func keyRate(f *form) *int {
	if f.Checked("unlimited") {
		n := noRateLimit
		return &n
	}
	text := f.Value("rateLimit")
	if text == "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 1_000_000 {
		f.Wrong("rateLimit", "must be a number from 1 to 1000000")
	}
	return &n
}

// keyEnd returns when a key is to end. "same" leaves it as it is.
func keyEnd(f *form) (o client.Optional[string]) {
	switch ends := f.Value("ends"); ends {
	case "", "same":
		return o
	case "never":
		return client.Null[string]()
	case "date":
		day, err := time.Parse(time.DateOnly, f.Value("date"))
		if err != nil {
			f.Wrong("date", "Choose the day on which the key is to end.")
			return o
		}
		return client.Some(day.Format(time.RFC3339))
	default:
		days, err := strconv.Atoi(ends)
		if err != nil || days < 1 || days > 3650 {
			f.Wrong("ends", "Choose when the key is to end.")
			return o
		}
		return client.Some(time.Now().UTC().AddDate(0, 0, days).Format(time.RFC3339))
	}
}

func (s *Server) showKey(v *visit) error {
	k, err := v.API.Key(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	return v.Render("key", keyTitle(k), keyPage{Form: formOfKey(k), Scopes: keyScopes(), Ends: changedEnds(k), Key: k})
}

func keyTitle(k client.Key) string { return cmp.Or(k.Label, k.ID) }

func formOfKey(k client.Key) *form {
	f := newForm("label", k.Label, "ends", "same")
	f.values["scope"] = k.Scopes
	if k.RateLimit == noRateLimit {
		f.values.Set("unlimited", "1")
	} else {
		f.values.Set("rateLimit", strconv.Itoa(k.RateLimit))
	}
	return f
}

func changedEnds(k client.Key) []choice {
	if k.ExpiresAt == nil {
		return append([]choice{{"same", "never, as now"}}, keyEnds()[1:]...)
	}
	return append([]choice{{"same", "as now: " + k.ExpiresAt.UTC().Format("2006-01-02 15:04") + " UTC"}}, keyEnds()...)
}

func (s *Server) changeKey(v *visit) error {
	f := v.Form()
	label := f.Value("label")
	in := client.UpdateKeyRequest{Label: &label, Scopes: f.All("scope"), RateLimit: keyRate(f), ExpiresAt: keyEnd(f)}
	if len(in.Scopes) == 0 {
		f.Wrong("scope", "Choose at least one. To end the key, revoke it.")
	}
	var err error
	if f.Valid() {
		if _, err = v.API.UpdateKey(v.Context(), v.Arg("id"), in); err == nil {
			return v.Redirect(path("/keys/%s", v.Arg("id")), good("The key is changed. It holds from its next request on."))
		}
		if !f.Refused(err, keyFields()) {
			return err
		}
	}
	k, err := v.API.Key(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	return v.RenderRefused("key", keyTitle(k), keyPage{Form: f, Scopes: keyScopes(), Ends: changedEnds(k), Key: k})
}

func (s *Server) rotateKey(v *visit) error {
	grace := graceOf(v)
	made, err := v.API.RotateKey(v.Context(), v.Arg("id"), client.RotateKeyRequest{GraceSeconds: &grace})
	if err != nil {
		return v.backTo(path("/keys/%s", v.Arg("id")), err, "")
	}
	return v.Render("keymade", keyTitle(made.Key), keyPage{Key: made.Key, Secret: made.Secret, URL: v.address()})
}

func (s *Server) revokeKey(v *visit) error {
	_, err := v.API.RevokeKey(v.Context(), v.Arg("id"))
	return v.backTo("/keys", err, "The key is revoked. Every request with it is refused from now on.")
}

// backTo ends a form without fields: a page says that it was done, or why not.
func (v *visit) backTo(to string, err error, done string) error {
	if err == nil {
		return v.Redirect(to, good(done))
	}
	f := form{errors: map[string]string{}}
	if !f.Refused(err) {
		return err
	}
	return v.Redirect(to, bad(f.Error))
}

// address returns the address of the API, for people to copy: that of --public-url, or the one
// that the browser has used.
func (v *visit) address() string {
	o := v.server.outside
	if o.origin != "" {
		return o.origin + o.base
	}
	scheme := "http"
	if o.isSecure(v.r) {
		scheme = "https"
	}
	return scheme + "://" + v.r.Host
}
