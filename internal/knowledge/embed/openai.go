package embed

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/knowledge/index"
	"agento.host/agento/internal/vault"
)

// OpenAISettings are the settings of an OpenAI embedder. URL, Model and Dimension
// are required.
type OpenAISettings struct {
	URL       string // such as https://api.openai.com/v1; /embeddings is appended
	Model     string
	Dimension int // requested from the service where possible, and checked

	// Key is called before each request, so a changed key is used from the next
	// request on. Its result is sent as a bearer token, unless it is empty. nil means
	// that the service needs no key.
	Key func(context.Context) (vault.Secret, error)

	BatchSize   int           // most texts per request; 0 means 64. It is halved when the service refuses that many
	MaxAttempts int           // per request, including the first one; 0 means 5
	RetryDelay  time.Duration // before the second attempt, doubled for each later one; 0 means half a second
	Timeout     time.Duration // of one attempt; 0 means 30 seconds
	HTTP        *http.Client  // nil means http.DefaultClient
}

// OpenAI embeds through any service that implements OpenAI's /v1/embeddings. Services limit
// the texts of a request (text-embeddings-inference 32, DashScope 10), its tokens and the tokens
// of a text, each with another status. What a service refuses is sent in halves.
type OpenAI struct {
	settings OpenAISettings
	batch    atomic.Int64 // most texts per request, as far as is known
}

const (
	maxResponse = 64 << 20 // bytes
	// maxWait is the longest delay that is waited for within a call. If the service asks for a
	// longer one, the caller is told to come back.
	maxWait = 20 * time.Second
	// maxRetryAfter is the longest delay that is believed.
	maxRetryAfter = time.Hour
	// slowBatch is the size of a batch from which fewer texts are tried if the service does not
	// answer in time.
	slowBatch = 8
	// minText is how many characters of a text are sent at least, if the service refuses more.
	minText = 64
)

// NewOpenAI returns an embedder. It does not contact the service yet.
// Errors: a required setting is missing.
func NewOpenAI(s OpenAISettings) (*OpenAI, error) {
	if s.URL == "" || s.Model == "" || s.Dimension < 1 {
		return nil, errors.New("the openai embedder needs the address of the service, a model and its dimension")
	}
	s.URL = strings.TrimSuffix(s.URL, "/")
	s.BatchSize = cmp.Or(s.BatchSize, 64)
	s.MaxAttempts = cmp.Or(s.MaxAttempts, 5)
	s.RetryDelay = cmp.Or(s.RetryDelay, 500*time.Millisecond)
	s.Timeout = cmp.Or(s.Timeout, 30*time.Second)
	s.HTTP = cmp.Or(s.HTTP, http.DefaultClient)
	o := &OpenAI{settings: s}
	o.batch.Store(int64(s.BatchSize))
	return o, nil
}

// Name implements Embedder.
func (o *OpenAI) Name() string {
	return fmt.Sprintf("openai/%s/%d", o.settings.Model, o.settings.Dimension)
}

// Dimension implements Embedder.
func (o *OpenAI) Dimension() int { return o.settings.Dimension }

// Embed implements Embedder. Of a text that is too long for the service only the beginning is
// embedded. A text that it refuses in any length gets a vector that is not similar to any
// other (see RandomVector), so that it is found by its words.
// Faults: Upstream, with RetryAfter if the service names a time; UpstreamTimeout.
func (o *OpenAI) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	all := make([][]float32, 0, len(texts))
	for len(all) < len(texts) {
		rest := texts[len(all):]
		vectors, _, err := o.embedBatch(ctx, rest[:min(len(rest), int(o.batch.Load()))])
		if err != nil {
			return nil, err
		}
		all = append(all, vectors...)
	}
	return all, nil
}

// embedBatch sends a batch. If the service refuses it, it sends its halves. clean reports
// whether the service took every text, so that the number of texts was too large.
func (o *OpenAI) embedBatch(ctx context.Context, texts []string) (vectors [][]float32, clean bool, err error) {
	vectors, err = o.request(ctx, texts)
	if err == nil {
		return vectors, true, nil
	}
	var refused *refusedError
	if ctx.Err() != nil || !errors.As(err, &refused) {
		return nil, false, o.fault(ctx, err)
	}
	if len(texts) == 1 {
		vectors, err = o.embedRefused(ctx, texts[0], err)
		return vectors, false, err
	}
	half := (len(texts) + 1) / 2
	first, cleanFirst, err := o.embedBatch(ctx, texts[:half])
	if err != nil {
		return nil, false, err
	}
	second, cleanSecond, err := o.embedBatch(ctx, texts[half:])
	if err != nil {
		return nil, false, err
	}
	if cleanFirst && cleanSecond {
		o.lower(int64(half))
	}
	return append(first, second...), cleanFirst && cleanSecond, nil
}

// lower lowers the size of later batches.
func (o *OpenAI) lower(size int64) {
	for old := o.batch.Load(); size < old && !o.batch.CompareAndSwap(old, size); old = o.batch.Load() {
	}
}

// embedRefused embeds a text that the service refuses alone: its beginning, if the text is too
// long. If the service takes another text, this one is the reason, and otherwise the settings.
func (o *OpenAI) embedRefused(ctx context.Context, text string, reason error) ([][]float32, error) {
	if _, err := o.request(ctx, []string{"hello"}); err != nil {
		return nil, o.fault(ctx, errors.Join(reason, err))
	}
	for runes := []rune(text); len(runes) > minText; {
		runes = runes[:len(runes)/2]
		vectors, err := o.request(ctx, []string{string(runes)})
		var refused *refusedError
		if err == nil || !errors.As(err, &refused) {
			return vectors, o.fault(ctx, err)
		}
	}
	return [][]float32{RandomVector(text, o.settings.Dimension)}, nil
}

// request sends texts and repeats the request after failures that may be temporary, up to
// MaxAttempts times. Errors: *refusedError, if fewer or shorter texts may be accepted;
// *temporaryError; others, which stay.
func (o *OpenAI) request(ctx context.Context, texts []string) ([][]float32, error) {
	delay := o.settings.RetryDelay
	for attempt := 1; ; attempt++ {
		key, err := o.key(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the key of the embedding service: %w", err)
		}
		vectors, err := o.send(ctx, key, texts)
		if err == nil {
			return vectors, nil
		}
		if len(texts) > slowBatch && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			return nil, &refusedError{err} // fewer texts take less time
		}
		var temporary *temporaryError
		if ctx.Err() != nil || attempt == o.settings.MaxAttempts || !errors.As(err, &temporary) || temporary.retryAfter > maxWait {
			return nil, err
		}
		// Half of the delay is random, so that callers that failed at the same time
		// do not retry at the same time.
		wait := max(temporary.retryAfter, delay/2+rand.N(delay/2+1)) //nolint:gosec // not a secret
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
		delay *= 2
	}
}

func (o *OpenAI) key(ctx context.Context) (vault.Secret, error) {
	if o.settings.Key == nil {
		return vault.Secret{}, nil
	}
	return o.settings.Key(ctx)
}

// temporaryError is a failure after which the request may be repeated.
type temporaryError struct {
	cause      error
	retryAfter time.Duration // as requested by the service
}

// Error implements error.
func (e *temporaryError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *temporaryError) Unwrap() error { return e.cause }

// refusedError is a failure of which fewer or shorter texts may be the remedy.
type refusedError struct{ cause error }

// Error implements error.
func (e *refusedError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *refusedError) Unwrap() error { return e.cause }

// fault returns the fault for an error, and nil for nil.
func (o *OpenAI) fault(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return ctx.Err() // whatever a service has answered to a caller that has left
	}
	var temporary *temporaryError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.UpstreamTimeout, "The embedding service did not answer in time. Try again.").Because(err)
	case errors.As(err, &temporary):
		f := fault.New(fault.Upstream, "The embedding service failed or is busy. Try again; if it keeps failing, contact the operator.").Because(err)
		f.RetryAfter = temporary.retryAfter
		return f
	}
	return fault.New(fault.Upstream, "The embedding service refuses the requests of this installation. Trying again does not help: contact the operator.").Because(err)
}

type openAIRequest struct {
	Model          string   `json:"model"`
	Input          []string `json:"input"`
	Dimensions     int      `json:"dimensions,omitempty"`
	EncodingFormat string   `json:"encoding_format"`
}

type openAIResponse struct {
	Data []struct {
		Index     *int      `json:"index"`
		Embedding []float32 `json:"embedding"`
	} `json:"data"`
}

// send makes one request.
func (o *OpenAI) send(ctx context.Context, key vault.Secret, texts []string) ([][]float32, error) {
	ctx, cancel := context.WithTimeout(ctx, o.settings.Timeout)
	defer cancel()
	in := openAIRequest{Model: o.settings.Model, Input: texts, EncodingFormat: "float"}
	if strings.HasPrefix(o.settings.Model, "text-embedding-3") {
		in.Dimensions = o.settings.Dimension // other models reject the field
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.settings.URL+"/embeddings", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if !key.Empty() {
		req.Header.Set("Authorization", "Bearer "+key.Reveal())
	}
	res, err := o.settings.HTTP.Do(req)
	if err != nil {
		return nil, &temporaryError{cause: err}
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, statusError(res)
	}
	response, err := io.ReadAll(io.LimitReader(res.Body, maxResponse))
	if err != nil {
		return nil, &temporaryError{cause: fmt.Errorf("read the embeddings: %w", err)}
	}
	return o.parse(response, texts)
}

// statusError returns the error of a failed response. It does not contain the body,
// because some services quote the key there.
func statusError(res *http.Response) error {
	err := fmt.Errorf("the embedding service answered %s", res.Status)
	body, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	has := func(text string) bool { return bytes.Contains(body, []byte(text)) }
	switch status := res.StatusCode; {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fmt.Errorf("%w; its key is the installation's secret %s", err, vault.EmbedderAPIKey)
	case status == http.StatusPaymentRequired, has("insufficient_quota"):
		return fmt.Errorf("%w: its account has no credit", err)
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusUnprocessableEntity,
		status == http.StatusTooManyRequests && has("Request too large"): // more tokens than OpenAI's limit of a minute
		return &refusedError{err}
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status == http.StatusFailedDependency, status >= 500:
		return &temporaryError{err, retryAfter(res.Header, time.Now())}
	}
	return err
}

// retryAfter returns how long the service asks to wait, in seconds or until a time; 0 if it
// does not say.
func retryAfter(h http.Header, now time.Time) time.Duration {
	var wait time.Duration
	if s, err := strconv.ParseFloat(h.Get("Retry-After"), 64); err == nil {
		wait = time.Duration(s * float64(time.Second))
	} else if at, err := http.ParseTime(h.Get("Retry-After")); err == nil {
		wait = at.Sub(now)
	}
	return max(0, min(wait, maxRetryAfter))
}

// parse decodes a response with the vectors of texts and scales them to length 1. Errors: the
// number of vectors, a dimension or an index is wrong.
func (o *OpenAI) parse(response []byte, texts []string) ([][]float32, error) {
	n := len(texts)
	var out openAIResponse
	if err := json.Unmarshal(response, &out); err != nil {
		return nil, &temporaryError{cause: fmt.Errorf("decode the embeddings: %w", err)}
	}
	if len(out.Data) != n {
		return nil, fmt.Errorf("the embedding service returned %d vectors for %d texts", len(out.Data), n)
	}
	vectors := make([][]float32, n)
	for i, d := range out.Data {
		position := i
		if d.Index != nil {
			position = *d.Index
		}
		if position < 0 || position >= n || vectors[position] != nil {
			return nil, fmt.Errorf("the embedding service returned the index %d for one of %d vectors: out of range or used twice", position, n)
		}
		if len(d.Embedding) != o.settings.Dimension {
			return nil, fmt.Errorf("the model %s returns %d dimensions, but %d are configured", o.settings.Model, len(d.Embedding), o.settings.Dimension)
		}
		if !index.Normalize(d.Embedding) {
			d.Embedding = RandomVector(texts[position], o.settings.Dimension) // the model recognised nothing
		}
		vectors[position] = d.Embedding
	}
	return vectors, nil
}
