package main

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/api"
	"agento.host/agento/internal/backup"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/oidc"
	"agento.host/agento/internal/provider"
)

// githubArchives is where GitHub's API redirects for archives.
const githubArchives = "codeload.github.com"

// providerHosts returns the addresses of the model providers themselves.
func providerHosts() []string {
	var hosts []string
	for _, p := range provider.All() {
		hosts = append(hosts, p.BaseURL)
	}
	return hosts
}

// failureAge is how long the failure of a service is shown that was not called again.
const failureAge = 10 * time.Minute

// dependencies are the services of others that the installation calls, and how the last
// call of each ended. /readyz shows those that have failed.
type dependencies struct {
	mu     sync.Mutex
	failed map[string]time.Time // guarded by mu
}

func newDependencies() *dependencies { return &dependencies{failed: map[string]time.Time{}} }

// watch returns a transport that notes the results of calls of a service.
func (d *dependencies) watch(service string, calls http.RoundTripper) http.RoundTripper {
	return watched{service, d, calls}
}

type watched struct {
	service string
	of      *dependencies
	calls   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (w watched) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := w.calls.RoundTrip(r)
	switch {
	case errors.Is(err, context.Canceled): // whoever called did not wait: the service may work
	case err == nil:
		w.of.note(w.service, !isFailure(res.StatusCode))
	default:
		w.of.note(w.service, false)
	}
	return res, err
}

// isFailure reports whether a status says that the service itself does not work, or that the
// installation may not use it.
func isFailure(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusTooManyRequests:
		return true
	}
	return status >= http.StatusInternalServerError
}

func (d *dependencies) note(service string, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ok {
		delete(d.failed, service)
		return
	}
	d.failed[service] = time.Now()
}

// degraded returns the services whose last call has failed, within failureAge.
func (d *dependencies) degraded() []api.Degradation {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []api.Degradation
	for _, s := range services() {
		if at, ok := d.failed[s.Name]; ok && time.Since(at) < failureAge {
			all = append(all, s)
		}
	}
	return all
}

// The services, with what /readyz says when one fails.
const (
	embedderService = "embedder"
	registryService = "registry"
	githubService   = "github"
	oidcService     = "oidc"
)

func services() []api.Degradation {
	return []api.Degradation{
		{Name: embedderService, Message: "The last call of the embedding service failed: knowledge cannot be ingested or searched while it does. The server's log has the cause."},
		{Name: registryService, Message: "The last call of the community skill registry failed. The server's log has the cause."},
		{Name: oidcService, Message: "The last call of the OpenID provider failed: people sign in with passwords while it does. The server's log has the cause."},
		{Name: githubService, Message: "The last call of GitHub failed: skills cannot be installed from it while it does. The server's log has the cause."},
	}
}

// degradation returns what does not work although the server serves: its own parts first,
// then the services that it calls.
func (d *dependencies) degradation(r *resources, accounts *access.Service, backups *backup.Service, openID *oidc.Provider) func() []api.Degradation {
	return func() []api.Degradation {
		var all []api.Degradation
		if r.db.IsQuiet() {
			all = append(all, api.Degradation{Name: "quiet", Message: "This installation was restored from a backup and is quiet: no agent runs and nothing is changed until agento activate."})
		}
		if space := r.db.Space(); space != "" {
			all = append(all, api.Degradation{Name: "disk", Message: space})
		}
		if err := r.driver.CheckIsolation(); err != nil {
			all = append(all, api.Degradation{Name: "isolation", Message: "Agents cannot be isolated: none is started, and no message is accepted. agento doctor says why."})
		}
		// An error is of the database, which readiness tells.
		if missing, err := accounts.PublicPlanProblem(context.Background()); err == nil && missing != "" {
			all = append(all, api.Degradation{Name: "plans", Message: missing})
		}
		if problem := backups.Degradation(context.Background()); problem != "" {
			all = append(all, api.Degradation{Name: "backup", Message: problem})
		}
		if r.reports != nil && r.reports.HasFailed() {
			all = append(all, api.Degradation{Name: "redis", Message: "Redis does not answer: each server knows the live status of its own agents only."})
		}
		failed := d.degraded()
		if openID != nil {
			if problem := openID.Problem(); problem != "" { // says more than that the last call failed
				failed = slices.DeleteFunc(failed, func(s api.Degradation) bool { return s.Name == oidcService })
				all = append(all, api.Degradation{Name: oidcService, Message: problem})
			}
		}
		return append(all, failed...)
	}
}

// registryClient returns the HTTP client for a registry. A registry that the operator
// has configured may be in a private network. The client follows redirects, as package
// fetch allows them: an archive of GitHub is behind one. hosts are those of the registry
// beside that of its URL.
func (d *dependencies) registryClient(service string, guard netguard.Guard, url, defaultURL string, hosts ...string) *http.Client {
	if url != defaultURL {
		guard.AllowPrivate = true
	}
	guard.Proxy = guard.Proxy.For(append(hosts, url)...)
	return &http.Client{Transport: d.watch(service, guard.Transport())}
}
