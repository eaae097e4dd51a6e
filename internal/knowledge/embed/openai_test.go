package embed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

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
		"no credit": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(429)
			_, _ = w.Write([]byte(`{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}`))
		}, 1, fault.Upstream},
		"no such model": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(404)
			_, _ = w.Write([]byte(`{"error":{"message":"The model does not exist","code":"model_not_found"}}`))
		}, 1, fault.Upstream},
		"wrong setting": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) }, 2, fault.Upstream}, // with a text that any service takes
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

// limitedService has the limits of a service, with its statuses and bodies. What it was compared
// with: the sources of text-embeddings-inference 1.8 (core/src/infer.rs, router/src/http) and the
// references of the APIs of OpenAI and Alibaba Cloud Model Studio, from memory; not the services.
type limitedService struct {
	texts, runes    int // of a request, of a text
	tooMany, tooBig func(http.ResponseWriter)
	refuses         string // a text that it never takes

	requests atomic.Int32
	largest  atomic.Int32 // of the batches that it took
}

func refusal(status int, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// handler answers as respond does, within the limits.
func (s *limitedService) handler(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		body, err := io.ReadAll(r.Body)
		var in openAIRequest
		if err != nil || json.Unmarshal(body, &in) != nil {
			t.Errorf("%s %v", body, err)
		}
		if len(in.Input) > s.texts {
			s.tooMany(w)
			return
		}
		for _, text := range in.Input {
			if utf8.RuneCountInString(text) > s.runes || s.refuses != "" && strings.Contains(text, s.refuses) {
				s.tooBig(w)
				return
			}
		}
		s.largest.Store(max(s.largest.Load(), int32(len(in.Input))))
		r.Body = io.NopCloser(bytes.NewReader(body))
		respond(t, w, r)
	}
}

func services() map[string]*limitedService {
	return map[string]*limitedService{
		"text-embeddings-inference": {
			texts: 32, runes: 2000,
			tooMany: refusal(413, `{"message":"batch size 64 > maximum allowed batch size 32","code":413,"type":"validation"}`),
			tooBig:  refusal(413, "{\"message\":\"`inputs` must have less than 512 tokens. Given: 900\",\"code\":413,\"type\":\"validation\"}"),
		},
		"text-embeddings-inference, old": {
			texts: 32, runes: 2000,
			tooMany: refusal(422, `{"error":"batch size 64 > maximum allowed batch size 32","error_type":"Validation"}`),
			tooBig:  refusal(422, `{"error":"Input validation error","error_type":"Tokenizer"}`),
		},
		"DashScope": {
			texts: 10, runes: 2048,
			tooMany: refusal(400, `{"error":{"code":"InvalidParameter","message":"batch size is invalid, it should not be larger than 10.: input.contents"}}`),
			tooBig:  refusal(400, `{"error":{"code":"InvalidParameter","message":"Range of input length should be [1, 2048]"}}`),
		},
		"OpenAI, tokens of a minute": {
			texts: 20, runes: 3000,
			tooMany: refusal(429, `{"error":{"message":"Request too large for text-embedding-3-small: Limit 40000, Requested 52000.","type":"tokens","code":"rate_limit_exceeded"}}`),
			tooBig:  refusal(400, `{"error":{"message":"This model's maximum context length is 8192 tokens","type":"invalid_request_error","code":null}}`),
		},
		"one text": {texts: 1, runes: 5000, tooMany: refusal(400, `{"error":"only one input"}`), tooBig: refusal(400, `{}`)},
	}
}

func TestOpenAIAdaptsToTheLimitOfTexts(t *testing.T) {
	for name, s := range services() {
		t.Run(name, func(t *testing.T) {
			o := newOpenAI(t, OpenAISettings{}, s.handler(t))
			texts := make([]string, 133)
			for i := range texts {
				texts[i] = strings.Repeat("x", i+1)
			}
			for round := range 2 {
				s.requests.Store(0)
				vectors, err := o.Embed(t.Context(), texts)
				if err != nil || len(vectors) != len(texts) {
					t.Fatalf("%d vectors, %v", len(vectors), err)
				}
				for i, v := range vectors {
					if got := float64(v[0] / v[1]); math.Abs(got-float64(i+1)) > 1e-3*float64(i+1) {
						t.Errorf("vector %d belongs to text %g", i, got)
					}
				}
				least := (len(texts) + int(s.largest.Load()) - 1) / int(s.largest.Load())
				if n := int(s.requests.Load()); round == 1 && n != least {
					t.Errorf("%d requests when the limit is known, want %d", n, least)
				}
			}
		})
	}
}

// TestOpenAIOneTextDoesNotFailItsBatch: a text that is too long is embedded by its beginning, and
// one that is never taken is similar to nothing. The others are as if they were alone, and
// batches stay as large.
func TestOpenAIOneTextDoesNotFailItsBatch(t *testing.T) {
	for name, s := range services() {
		t.Run(name, func(t *testing.T) {
			s.refuses = "unspeakable"
			o := newOpenAI(t, OpenAISettings{BatchSize: s.texts}, s.handler(t))
			texts := []string{"a", "bb", strings.Repeat("w", 3*s.runes), "dddd", "what is unspeakable", "ffffff"}
			vectors, err := o.Embed(t.Context(), texts)
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []float64{1, 2, float64(3 * s.runes / 4), 4, 0, 6} {
				if got := float64(vectors[i][0] / vectors[i][1]); want != 0 && math.Abs(got-want) > 1e-3*want {
					t.Errorf("vector %d is of %g characters, want %g", i, got, want)
				}
			}
			if !slices.Equal(vectors[4], RandomVector(texts[4], 2)) {
				t.Errorf("%v", vectors[4])
			}
			if got := o.batch.Load(); got != int64(s.texts) {
				t.Errorf("batches of %d after a bad text", got)
			}
		})
	}
}

func TestOpenAISplitsSlowBatches(t *testing.T) {
	o := newOpenAI(t, OpenAISettings{Timeout: 500 * time.Millisecond, MaxAttempts: 1}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if bytes.Count(body, []byte(`"t`)) > 16 {
			<-r.Context().Done()
			return
		}
		respond(t, w, r)
	})
	texts := make([]string, 64)
	for i := range texts {
		texts[i] = "t"
	}
	if vectors, err := o.Embed(t.Context(), texts); err != nil || len(vectors) != 64 {
		t.Fatalf("%d vectors, %v", len(vectors), err)
	}
}

// TestOpenAIVectorOfZeros: the model recognised nothing in one text.
func TestOpenAIVectorOfZeros(t *testing.T) {
	o := newOpenAI(t, OpenAISettings{}, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"data":[{"index":0,"embedding":[0,0]},{"index":1,"embedding":[3,4]}]}`))
	})
	vectors, err := o.Embed(t.Context(), []string{"~", "b"})
	if err != nil || !slices.Equal(vectors[0], RandomVector("~", 2)) || vectors[1][0] != 0.6 {
		t.Fatal(vectors, err)
	}
}

// TestOpenAITellsPermanentFailures: what the caller can do, and when.
func TestOpenAITellsPermanentFailures(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		after  string
		says   string
		wait   time.Duration
	}{
		"busy for long": {429, "90", "Try again", 90 * time.Second},
		"down":          {503, time.Now().Add(10 * time.Minute).UTC().Format(http.TimeFormat), "Try again", 10 * time.Minute},
		"wrong key":     {401, "", "does not help", 0},
		"no credit":     {402, "", "does not help", 0},
		"moved":         {410, "", "does not help", 0},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			o := newOpenAI(t, OpenAISettings{}, func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				if c.after != "" {
					w.Header().Set("Retry-After", c.after)
				}
				w.WriteHeader(c.status)
			})
			_, err := o.Embed(t.Context(), []string{"a"})
			f := fault.From(err)
			if f.Code != fault.Upstream || !strings.Contains(f.Message, c.says) || f.RetryAfter > c.wait || f.RetryAfter < c.wait-10*time.Second || requests.Load() != 1 {
				t.Errorf("%v, after %s, %d requests", f, f.RetryAfter, requests.Load())
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
