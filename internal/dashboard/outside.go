package dashboard

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// root is the path of the dashboard below that of the public URL.
const root = "/app"

// outside is how people reach the server: the address that they use, and the proxies before
// it. Nothing of that is guessed from headers which a client can write.
type outside struct {
	base    string // the path of the public URL, without a slash at its end
	origin  string // scheme and host of the public URL; empty: not known
	secure  bool   // the public URL has TLS
	proxies []netip.Prefix
}

func newOutside(publicURL string, proxies []netip.Prefix) (outside, error) {
	o := outside{proxies: proxies}
	if publicURL == "" {
		return o, nil
	}
	u, err := url.Parse(publicURL)
	if err != nil || u.Host == "" {
		return o, fmt.Errorf("the public URL %q is no address", publicURL)
	}
	o.base, o.origin, o.secure = strings.TrimSuffix(u.Path, "/"), u.Scheme+"://"+u.Host, u.Scheme == "https"
	return o, nil
}

// path returns the path of a page as the browser must name it.
func (o outside) path(below string) string { return o.base + root + below }

// strip returns a request whose path is below root. A proxy may pass the path of the public
// URL, or strip it.
func (o outside) strip(r *http.Request) *http.Request {
	u := *r.URL
	u.Path, u.RawPath = o.below(r.URL.Path), o.below(r.URL.EscapedPath()) // a name in the path may have a slash
	out := r.WithContext(r.Context())
	out.URL = &u
	return out
}

func (o outside) below(path string) string {
	below, ok := strings.CutPrefix(path, o.base+root)
	if !ok {
		below = strings.TrimPrefix(path, root)
	}
	return cmp.Or(below, "/")
}

// protect refuses unsafe requests that come from pages of other origins. Behind a proxy that
// changes Host, the public URL says which origin is ours.
func (o outside) protect(h, refused http.Handler) (http.Handler, error) {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(refused)
	if o.origin != "" {
		if err := protection.AddTrustedOrigin(o.origin); err != nil {
			return nil, fmt.Errorf("the public URL: %w", err)
		}
	}
	return protection.Handler(h), nil
}

// trusts reports whether a request comes from one of the operator's proxies.
func (o outside) trusts(r *http.Request) bool {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && slices.ContainsFunc(o.proxies, func(p netip.Prefix) bool { return p.Contains(addr.Addr().Unmap()) })
}

// isSecure reports whether the browser of a request speaks TLS.
func (o outside) isSecure(r *http.Request) bool {
	return o.secure || r.TLS != nil || o.trusts(r) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// owns reports whether a path is one of the dashboard.
func (o outside) owns(path string) bool {
	below := strings.TrimPrefix(path, o.base)
	return below == root || strings.HasPrefix(below, root+"/")
}
