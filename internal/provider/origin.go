package provider

import (
	"fmt"
	"net/url"
	"strings"
)

// Origin is the scheme, host and port of a URL, such as https://api.openai.com. A
// credential is sent only to the origin that it was given for. The empty Origin is that
// of no URL.
type Origin string

// OriginOf returns the origin of an http or https URL. The default port is left out.
// Two spellings of one host may have two origins, but two hosts never have one.
func OriginOf(rawURL string) (Origin, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "", fmt.Errorf("parse URL: %w", err)
	}
	return OriginOfURL(u)
}

// OriginOfURL is OriginOf for a parsed URL.
func OriginOfURL(u *url.URL) (Origin, error) {
	defaultPort := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	if defaultPort == "" || u.Hostname() == "" {
		return "", fmt.Errorf("%q is no origin: it needs http or https, and a host", u.Scheme+"://"+u.Host)
	}
	host := lowerASCII(u.Host)
	if port := u.Port(); port == defaultPort || port == "" {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return Origin(u.Scheme + "://" + host), nil
}

// lowerASCII leaves all but ASCII letters as they are: strings.ToLower makes an ASCII
// letter of some others, and one text of all invalid ones.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// Origin returns the origin of an agent's endpoint. baseURL is as for EndpointProtocol.
func (p Provider) Origin(baseURL string) (Origin, error) {
	if baseURL == "" {
		baseURL = p.BaseURL
	}
	return OriginOf(baseURL)
}

// OfKey returns the provider whose API key the secret is.
func (n SecretName) OfKey() (p Provider, ok bool) {
	for _, p := range providers {
		if p.Secret == n {
			return p, true
		}
	}
	return Provider{}, false
}
