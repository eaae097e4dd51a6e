package embed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// respond writes a correct response: text i of the request becomes the vector (its
// length in bytes, 1). The last text comes first, so the order must be restored.
func respond(t *testing.T, w http.ResponseWriter, r *http.Request) {
	t.Helper()
	var in openAIRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		t.Error(err)
	}
	rows := make([]string, len(in.Input))
	for i, text := range in.Input {
		rows[len(rows)-1-i] = fmt.Sprintf(`{"object":"embedding","index":%d,"embedding":[%d,1]}`, i, len(text))
	}
	_, _ = fmt.Fprintf(w, `{"object":"list","model":%q,"data":[%s]}`, in.Model, strings.Join(rows, ","))
}

// newOpenAI returns an embedder whose service is the handler.
func newOpenAI(t *testing.T, s OpenAISettings, handler http.HandlerFunc) *OpenAI {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	s.URL, s.Model = server.URL+"/v1/", "test-model"
	s.Dimension, s.RetryDelay = 2, time.Millisecond
	o, err := NewOpenAI(s)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func constantKey(key string) func(context.Context) (vault.Secret, error) {
	return func(context.Context) (vault.Secret, error) { return vault.NewSecret(key), nil }
}

func TestOpenAIBatchesAndKeepsOrder(t *testing.T) {
	var requests atomic.Int32
	o := newOpenAI(t, OpenAISettings{BatchSize: 3, Key: constantKey("a-test-key")}, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.URL.Path != "/v1/embeddings" || r.Header.Get("Authorization") != "Bearer a-test-key" {
			t.Errorf("%s with %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		respond(t, w, r)
	})
	texts := []string{"a", "bb", "ccc", "dddd", "eeeee", "ffffff", "ggggggg"}
	vectors, err := o.Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range vectors {
		if got, want := float64(v[0]/v[1]), float64(len(texts[i])); math.Abs(got-want) > 1e-3 {
			t.Errorf("vector %d belongs to text %g", i, got)
		}
		if l := math.Hypot(float64(v[0]), float64(v[1])); math.Abs(l-1) > 1e-5 {
			t.Errorf("length %g", l)
		}
	}
	if requests.Load() != 3 {
		t.Errorf("%d requests for 7 texts in batches of 3", requests.Load())
	}
	if o.Name() != "openai/test-model/2" || o.Dimension() != 2 {
		t.Error(o.Name(), o.Dimension())
	}
}

func TestOpenAIRetriesTemporaryFailures(t *testing.T) {
	for name, fail := range map[string]http.HandlerFunc{
		"429":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) },
		"500":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"503":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"not JSON":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`<html>`)) },
		"truncated": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"data":[{"index":0,"emb`)) },
		"aborted":   func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			o := newOpenAI(t, OpenAISettings{}, func(w http.ResponseWriter, r *http.Request) {
				if requests.Add(1) < 4 {
					fail(w, r)
					return
				}
				respond(t, w, r)
			})
			if _, err := o.Embed(t.Context(), []string{"a"}); err != nil || requests.Load() != 4 {
				t.Fatalf("%d requests, then %v", requests.Load(), err)
			}
		})
	}
}

func TestOpenAIReturnsFaults(t *testing.T) {
	for name, c := range map[string]struct {
		fail     http.HandlerFunc
		requests int32
		code     fault.Code
	}{
		"always 500": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 5, fault.Upstream},
		"wrong key":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, 1, fault.Upstream},
		"wrong dimension": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"data":[{"index":0,"embedding":[1,2,3]}]}`))
		}, 1, fault.Upstream},
		"too few": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"data":[]}`)) }, 1, fault.Upstream},
		"wrong index": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"data":[{"index":7,"embedding":[1,2]}]}`))
		}, 1, fault.Upstream},
		"zeros": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"data":[{"index":0,"embedding":[0,0]}]}`))
		}, 1, fault.Upstream},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			o := newOpenAI(t, OpenAISettings{Key: constantKey("a-test-key")}, func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				c.fail(w, r)
			})
			_, err := o.Embed(t.Context(), []string{"a"})
			if !fault.Is(err, c.code) || requests.Load() != c.requests {
				t.Fatalf("%d requests, then %v", requests.Load(), err)
			}
			if strings.Contains(err.Error(), "a-test-key") {
				t.Error("the error shows the key")
			}
		})
	}
}

func TestOpenAIReadsKeyBeforeEachRequest(t *testing.T) {
	db := databasetest.New(t)
	v, err := vault.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	secrets := vault.NewInstallation(db, v, event.NewLog(db))
	var sent []string
	valid := ""
	o := newOpenAI(t, OpenAISettings{Key: func(ctx context.Context) (vault.Secret, error) { return secrets.Read(ctx, vault.EmbedderAPIKey) }},
		func(w http.ResponseWriter, r *http.Request) {
			sent = r.Header.Values("Authorization")
			if r.Header.Get("Authorization") != valid {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			respond(t, w, r)
		})
	mustEmbed := func(want string) {
		t.Helper()
		if _, err := o.Embed(t.Context(), []string{"a"}); err != nil {
			t.Fatal(err)
		}
		if strings.Join(sent, ",") != want {
			t.Fatalf("sent %q, want %q", sent, want)
		}
	}
	mustEmbed("")
	if sent != nil {
		t.Error("an Authorization header was sent without a key")
	}
	for _, key := range []string{"key-one", "key-two"} { // the service changes its key first
		valid = "Bearer " + key
		_, err := o.Embed(t.Context(), []string{"a"})
		if !fault.Is(err, fault.Upstream) || !strings.Contains(err.Error(), string(vault.EmbedderAPIKey)) || strings.Contains(err.Error(), "key-") {
			t.Fatal(err)
		}
		if err := secrets.Set(t.Context(), identity.ByOperator(""), vault.EmbedderAPIKey, vault.NewSecret(key)); err != nil {
			t.Fatal(err)
		}
		mustEmbed("Bearer " + key)
	}
	valid = ""
	if err := secrets.Delete(t.Context(), identity.ByOperator(""), vault.EmbedderAPIKey); err != nil {
		t.Fatal(err)
	}
	mustEmbed("")
}

func TestOpenAISendsNothingIfKeyIsUnreadable(t *testing.T) {
	sealed := errors.New("sealed by another master key")
	o := newOpenAI(t, OpenAISettings{Key: func(context.Context) (vault.Secret, error) { return vault.Secret{}, sealed }},
		func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	if _, err := o.Embed(t.Context(), []string{"a"}); !errors.Is(err, sealed) {
		t.Fatal(err)
	}
}

func TestOpenAITimesOut(t *testing.T) {
	release := make(chan struct{})
	o := newOpenAI(t, OpenAISettings{Timeout: 20 * time.Millisecond, MaxAttempts: 2}, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	if _, err := o.Embed(t.Context(), []string{"a"}); !fault.Is(err, fault.UpstreamTimeout) {
		t.Fatal(err)
	}
}

func TestOpenAIStopsWhenContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := newOpenAI(t, OpenAISettings{MaxAttempts: 100}, func(w http.ResponseWriter, _ *http.Request) {
		cancel()
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	if _, err := o.Embed(ctx, []string{"a"}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestNewOpenAIRejectsMissingSettings(t *testing.T) {
	for _, s := range []OpenAISettings{{}, {URL: "http://127.0.0.1"}, {URL: "http://127.0.0.1", Model: "m"}} {
		if _, err := NewOpenAI(s); err == nil {
			t.Errorf("%+v: accepted", s)
		}
	}
}
