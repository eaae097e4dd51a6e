package provider_test

import (
	"testing"

	"agento.host/agento/internal/provider"
)

func TestOriginIsTheSchemeHostAndPort(t *testing.T) {
	for url, want := range map[string]provider.Origin{
		"https://api.openai.com/v1":     "https://api.openai.com",
		"https://api.openai.com:443/":   "https://api.openai.com",
		"https://API.OpenAI.com":        "https://api.openai.com",
		"https://api.openai.com:/v1":    "https://api.openai.com",
		"http://api.openai.com":         "http://api.openai.com",
		"http://api.openai.com:443":     "http://api.openai.com:443",
		"https://api.openai.com:80":     "https://api.openai.com:80",
		"https://api.openai.com.":       "https://api.openai.com.",
		"HTTP://[::1]:80/x":             "http://[::1]",
		"http://[::1]":                  "http://[::1]",
		"http://[::1]:11434/v1":         "http://[::1]:11434",
		"https://user:pass@one.test/":   "https://one.test",
		"https://\u212aelvin.test":      "https://\u212aelvin.test", // strings.ToLower makes it kelvin.test
		"https://one.test\\@two.test/":  "",
		"https://a.test?@two.test":      "https://a.test",
		"ftp://one.test":                "",
		"https:///v1":                   "",
		"one.test":                      "",
		"":                              "",
		"https://one.test:port":         "",
		"https://one.test/\x00https://": "",
	} {
		got, err := provider.OriginOf(url)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", url, got, err, want)
		}
	}
}

func TestEveryProviderHasAnOriginOfItsOwn(t *testing.T) {
	seen := map[provider.Origin]bool{}
	for _, p := range provider.All() {
		origin, err := p.Origin("")
		if err != nil || seen[origin] {
			t.Errorf("%s: %s, %v", p.Name, origin, err)
		}
		seen[origin] = true
		if other, err := p.Origin("http://one.test/v1"); err != nil || other != "http://one.test" {
			t.Errorf("%s elsewhere: %s, %v", p.Name, other, err)
		}
		if of, ok := p.Secret.OfKey(); !ok || of.Name != p.Name {
			t.Errorf("the key of %s is that of %s", p.Name, of.Name)
		}
	}
	for _, name := range []provider.SecretName{provider.TelegramToken, provider.SlackBotToken, "CRM_TOKEN"} {
		if p, ok := name.OfKey(); ok {
			t.Errorf("%s is a key of %s", name, p.Name)
		}
	}
}
