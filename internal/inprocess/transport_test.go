package inprocess_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"agento.host/agento/internal/inprocess"
)

func client(h http.HandlerFunc) *http.Client {
	return &http.Client{Transport: inprocess.Transport{Handler: h}}
}

func TestRequestAndResponseArrive(t *testing.T) {
	c := client(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Got", r.Method+" "+r.URL.RequestURI()+" "+string(body))
		w.WriteHeader(http.StatusTeapot)
		w.Header().Set("X-Late", "1")
		_, _ = io.WriteString(w, "short and stout")
	})
	res, err := c.Post("http://server/pot?x=1", "text/plain", strings.NewReader("tea"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || string(text) != "short and stout" || res.StatusCode != http.StatusTeapot || res.Header.Get("X-Got") != "POST /pot?x=1 tea" || res.Header.Get("X-Late") != "" {
		t.Errorf("%d %v %q %v", res.StatusCode, res.Header, text, err)
	}
}

func TestAResponseIsStreamedAndItsEndEndsTheHandler(t *testing.T) {
	ended := make(chan error, 1)
	c := client(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first\n")
		<-r.Context().Done()
		ended <- r.Context().Err()
	})
	res, err := c.Get("http://server/")
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || line != "first\n" {
		t.Errorf("%q %v", line, err)
	}
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestACancelledRequestEndsBeforeItsHeader(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := client(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://server/", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err == nil {
		_, err = io.ReadAll(res.Body) // the handler may have ended first
		res.Body.Close()
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestAPanicBreaksTheResponseOff(t *testing.T) {
	res, err := client(func(http.ResponseWriter, *http.Request) { panic("broken") }).Get("http://server/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadAll(res.Body); err == nil || res.StatusCode != http.StatusInternalServerError {
		t.Errorf("%d %v", res.StatusCode, err)
	}
}
