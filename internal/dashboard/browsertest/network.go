package browsertest

import (
	"encoding/json"
	"net/url"
	"slices"
)

// Request is what a page has loaded, or tried to.
type Request struct {
	URL, Method string
	Type        string // Document, Stylesheet, Script, Fetch, EventSource, Image, …
	Status      int    // 0: no response
	Bytes       int64  // of the response with its header, as transferred
	Failed      string // why there is no whole response
	Header      map[string]string
}

func (tab *Tab) handleNetwork(m browserMessage) {
	var e struct {
		RequestID         string
		Type              string
		Request           struct{ URL, Method string }
		Response          struct{ Status int }
		Headers           map[string]string
		RedirectResponse  *struct{ Status, EncodedDataLength int }
		EncodedDataLength float64
		DataLength        int64
		ErrorText         string
	}
	if json.Unmarshal(m.Params, &e) != nil {
		return
	}
	if m.Method == "Network.requestWillBeSent" {
		if before := tab.byID[e.RequestID]; before != nil && e.RedirectResponse != nil {
			before.Status, before.Bytes = e.RedirectResponse.Status, int64(e.RedirectResponse.EncodedDataLength)
		}
		r := &Request{URL: e.Request.URL, Method: e.Request.Method, Type: e.Type}
		tab.requests, tab.byID[e.RequestID] = append(tab.requests, r), r
		return
	}
	r := tab.byID[e.RequestID]
	if r == nil {
		return
	}
	switch m.Method {
	case "Network.responseReceived":
		r.Status = e.Response.Status
		r.Bytes += int64(e.EncodedDataLength)
	case "Network.responseReceivedExtraInfo":
		r.Header = e.Headers
	case "Network.loadingFinished":
		r.Bytes = int64(e.EncodedDataLength)
	case "Network.loadingFailed":
		r.Failed = e.ErrorText
	}
}

// Requests returns what the tab has loaded since ForgetRequests.
func (tab *Tab) Requests() []Request {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	all := make([]Request, len(tab.requests))
	for i, r := range tab.requests {
		all[i] = *r
	}
	return all
}

// ForgetRequests forgets what was loaded so far.
func (tab *Tab) ForgetRequests() {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.requests = nil
}

// Transferred returns how many bytes were transferred for the requests of some types; without one, for all.
func (tab *Tab) Transferred(types ...string) (bytes int64) {
	for _, r := range tab.Requests() {
		if len(types) == 0 || slices.Contains(types, r.Type) {
			bytes += r.Bytes
		}
	}
	return bytes
}

// Elsewhere returns the requests that went to another origin than those of that address.
func (tab *Tab) Elsewhere(address string) (others []string) {
	own, err := url.Parse(address)
	if err != nil {
		tab.t.Fatal(err)
	}
	for _, r := range tab.Requests() {
		if u, err := url.Parse(r.URL); err != nil || u.Host != own.Host && u.Scheme != "data" && u.Scheme != "about" && u.Scheme != "blob" {
			others = append(others, r.URL)
		}
	}
	return others
}

// Block makes requests fail whose URL matches one of the patterns, in which * is any text. Without one, none fails.
func (tab *Tab) Block(patterns ...string) {
	tab.t.Helper()
	tab.call("Network.setBlockedURLs", map[string]any{"urls": append([]string{}, patterns...)}, nil)
}

// SetCache says whether responses may come from the browser's cache.
func (tab *Tab) SetCache(on bool) {
	tab.t.Helper()
	tab.call("Network.setCacheDisabled", map[string]any{"cacheDisabled": !on}, nil)
}

// SetOffline takes the network away, or gives it back.
func (tab *Tab) SetOffline(offline bool) {
	tab.t.Helper()
	tab.call("Network.emulateNetworkConditions", map[string]any{"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}, nil)
}

// Cookie is a cookie of a profile.
type Cookie struct {
	Name, Value, Path, SameSite string
	HTTPOnly, Secure            bool
	Expires                     float64
}

// Cookies returns the cookies that the page's address gets.
func (tab *Tab) Cookies() []Cookie {
	tab.t.Helper()
	var got struct{ Cookies []Cookie }
	tab.call("Network.getCookies", nil, &got)
	return got.Cookies
}

// SetCookie gives the tab's profile a cookie of an address, such as one that another client got.
func (tab *Tab) SetCookie(address, name, value, path string) {
	tab.t.Helper()
	tab.call("Network.setCookie", map[string]any{"url": address, "name": name, "value": value, "path": path, "httpOnly": true}, nil)
}
