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
	"slices"
	"strconv"
	"strings"
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

	BatchSize   int           // texts per request; 0 means 64
	MaxAttempts int           // per request, including the first one; 0 means 5
	RetryDelay  time.Duration // before the second attempt, doubled for each later one; 0 means half a second
	Timeout     time.Duration // of one attempt; 0 means 30 seconds
	HTTP        *http.Client  // nil means http.DefaultClient
}

// OpenAI embeds through any service that implements OpenAI's /v1/embeddings.
type OpenAI struct{ settings OpenAISettings }

const (
	maxResponse   = 64 << 20    // bytes
	maxRetryAfter = time.Minute // the longest delay that is accepted from a service
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
	return &OpenAI{s}, nil
}

// Name implements Embedder.
func (o *OpenAI) Name() string {
	return fmt.Sprintf("openai/%s/%d", o.settings.Model, o.settings.Dimension)
}

// Dimension implements Embedder.
func (o *OpenAI) Dimension() int { return o.settings.Dimension }

// Embed implements Embedder. Faults: Upstream, UpstreamTimeout.
func (o *OpenAI) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	all := make([][]float32, 0, len(texts))
	for batch := range slices.Chunk(texts, o.settings.BatchSize) {
		vectors, err := o.embedBatch(ctx, batch)
		if err != nil {
			return nil, err
		}
		all = append(all, vectors...)
	}
	return all, nil
}

// embedBatch sends a batch and repeats the request after failures that may be
// temporary, up to MaxAttempts times.
func (o *OpenAI) embedBatch(ctx context.Context, texts []string) ([][]float32, error) {
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
		var temporary *temporaryError
		if ctx.Err() != nil || attempt == o.settings.MaxAttempts || !errors.As(err, &temporary) {
			return nil, o.fault(ctx, err)
		}
		// Half of the delay is random, so that callers that failed at the same time
		// do not retry at the same time.
		wait := delay/2 + rand.N(delay/2+1) //nolint:gosec // not a secret
		wait = max(wait, min(temporary.retryAfter, maxRetryAfter))
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

func (o *OpenAI) fault(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fault.New(fault.UpstreamTimeout, "The embedding service did not answer in time. Try again.").Because(err)
	}
	return fault.New(fault.Upstream, "The embedding service failed. Try again; if it keeps failing, contact the operator.").Because(err)
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
	return o.parse(response, len(texts))
}

// statusError returns the error of a failed response. It does not contain the body,
// because some services quote the key there.
func statusError(res *http.Response) error {
	err := fmt.Errorf("the embedding service answered %s", res.Status)
	if res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden {
		return fmt.Errorf("%w; its key is the installation's secret %s", err, vault.EmbedderAPIKey)
	}
	if res.StatusCode != http.StatusTooManyRequests && res.StatusCode != http.StatusRequestTimeout && res.StatusCode < 500 {
		return err
	}
	after, parseErr := strconv.Atoi(res.Header.Get("Retry-After"))
	if parseErr != nil {
		after = 0
	}
	return &temporaryError{err, time.Duration(max(0, after)) * time.Second}
}

// parse decodes a response with n vectors and scales them to length 1. Errors: the
// number of vectors, a dimension or an index is wrong.
func (o *OpenAI) parse(response []byte, n int) ([][]float32, error) {
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
			return nil, fmt.Errorf("the model %s returned a vector of zeros, or one that is not finite", o.settings.Model)
		}
		vectors[position] = d.Embedding
	}
	return vectors, nil
}
