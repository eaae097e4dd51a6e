package embed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/vault"
)

// OpenAISettings say which service embeds. URL, Model and Size are needed.
type OpenAISettings struct {
	URL   string // such as https://api.openai.com/v1; /embeddings is added
	Model string
	Size  int // the dimension; asked of the service and checked

	// Key is asked before each request, so that a new key holds from the next one
	// on. What it returns is sent as a bearer token; nil, or an empty key: none is.
	Key func(context.Context) (vault.Secret, error)

	Batch   int           // texts in one request; 0: 64
	Tries   int           // of one request, the first included; 0: 5
	Wait    time.Duration // before the second try, doubled for each later one; 0: half a second
	Timeout time.Duration // of one try; 0: 30 seconds
	HTTP    *http.Client  // nil: http.DefaultClient
}

// OpenAI embeds through any service that speaks OpenAI's /v1/embeddings.
type OpenAI struct{ s OpenAISettings }

// The most that is read of an answer, and the longest wait that a service may ask for.
const (
	longestAnswer = 64 << 20
	longestWait   = time.Minute
)

// NewOpenAI makes an embedder; it asks the service nothing yet.
func NewOpenAI(s OpenAISettings) (*OpenAI, error) {
	if s.URL == "" || s.Model == "" || s.Size < 1 {
		return nil, errors.New("the openai embedder needs the address of the service, a model and its dimension")
	}
	s.URL = strings.TrimSuffix(s.URL, "/")
	s.Batch = either(s.Batch, 64)
	s.Tries = either(s.Tries, 5)
	s.Wait = either(s.Wait, 500*time.Millisecond)
	s.Timeout = either(s.Timeout, 30*time.Second)
	s.HTTP = either(s.HTTP, http.DefaultClient)
	return &OpenAI{s}, nil
}

func either[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Name implements Embedder.
func (o *OpenAI) Name() string { return fmt.Sprintf("openai/%s/%d", o.s.Model, o.s.Size) }

// Dimension implements Embedder.
func (o *OpenAI) Dimension() int { return o.s.Size }

// Embed implements Embedder. Faults: Upstream, UpstreamTimeout.
func (o *OpenAI) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	all := make([][]float32, 0, len(texts))
	for from := 0; from < len(texts); from += o.s.Batch {
		batch := texts[from:min(from+o.s.Batch, len(texts))]
		vectors, err := o.batch(ctx, batch)
		if err != nil {
			return nil, err
		}
		all = append(all, vectors...)
	}
	return all, nil
}

// batch tries until it works, the service refuses for good, or tries run out.
func (o *OpenAI) batch(ctx context.Context, texts []string) ([][]float32, error) {
	wait := o.s.Wait
	for try := 1; ; try++ {
		key, err := o.key(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the key of the embedding service: %w", err)
		}
		vectors, err := o.once(ctx, key, texts)
		if err == nil {
			return vectors, nil
		}
		var again *retryError
		if ctx.Err() != nil || try == o.s.Tries || !errors.As(err, &again) {
			return nil, o.fault(ctx, err)
		}
		// Half of the wait is chance, so that callers who failed together part.
		pause := wait/2 + rand.N(wait/2+1) //nolint:gosec // no secret
		pause = max(pause, min(again.after, longestWait))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
		wait *= 2
	}
}

func (o *OpenAI) key(ctx context.Context) (vault.Secret, error) {
	if o.s.Key == nil {
		return vault.Secret{}, nil
	}
	return o.s.Key(ctx)
}

// retryError is a failure that may pass.
type retryError struct {
	cause error
	after time.Duration // what the service asked for
}

// Error implements error.
func (e *retryError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *retryError) Unwrap() error { return e.cause }

func (o *OpenAI) fault(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fault.New(fault.UpstreamTimeout, "The embedding service did not answer in time. Try again.").Because(err)
	}
	return fault.New(fault.Upstream, "The embedding service failed. Try again; if it stays, tell the operator.").Because(err)
}

type openAIRequest struct {
	Model          string   `json:"model"`
	Input          []string `json:"input"`
	Dimensions     int      `json:"dimensions,omitempty"`
	EncodingFormat string   `json:"encoding_format"`
}

type openAIAnswer struct {
	Data []struct {
		Index     *int      `json:"index"`
		Embedding []float32 `json:"embedding"`
	} `json:"data"`
}

func (o *OpenAI) once(ctx context.Context, key vault.Secret, texts []string) ([][]float32, error) {
	ctx, cancel := context.WithTimeout(ctx, o.s.Timeout)
	defer cancel()
	in := openAIRequest{Model: o.s.Model, Input: texts, EncodingFormat: "float"}
	if strings.HasPrefix(o.s.Model, "text-embedding-3") {
		in.Dimensions = o.s.Size // other models refuse the field
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.s.URL+"/embeddings", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if !key.Empty() {
		req.Header.Set("Authorization", "Bearer "+key.Reveal())
	}
	res, err := o.s.HTTP.Do(req)
	if err != nil {
		return nil, &retryError{cause: err}
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, refused(res)
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, longestAnswer))
	if err != nil {
		return nil, &retryError{cause: fmt.Errorf("read the embeddings: %w", err)}
	}
	return o.vectors(answer, len(texts))
}

// refused does not repeat the body: services quote the key in it.
func refused(res *http.Response) error {
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
	return &retryError{err, time.Duration(max(0, after)) * time.Second}
}

// vectors checks an answer: n vectors of the right dimension, each index once.
func (o *OpenAI) vectors(answer []byte, n int) ([][]float32, error) {
	var out openAIAnswer
	if err := json.Unmarshal(answer, &out); err != nil {
		return nil, &retryError{cause: fmt.Errorf("decode the embeddings: %w", err)}
	}
	if len(out.Data) != n {
		return nil, fmt.Errorf("the embedding service gave %d vectors for %d texts", len(out.Data), n)
	}
	vectors := make([][]float32, n)
	for i, d := range out.Data {
		at := i
		if d.Index != nil {
			at = *d.Index
		}
		if at < 0 || at >= n || vectors[at] != nil {
			return nil, fmt.Errorf("the embedding service numbered a vector %d of %d, or twice", at, n)
		}
		if len(d.Embedding) != o.s.Size {
			return nil, fmt.Errorf("the model %s gives %d dimensions, and %d are configured", o.s.Model, len(d.Embedding), o.s.Size)
		}
		if !unit(d.Embedding) {
			return nil, fmt.Errorf("the model %s gave a vector without a direction", o.s.Model)
		}
		vectors[at] = d.Embedding
	}
	return vectors, nil
}

// unit scales v to length 1 and says whether it could.
func unit(v []float32) bool {
	var square float64
	for _, x := range v {
		square += float64(x) * float64(x)
	}
	if square == 0 || math.IsNaN(square) || math.IsInf(square, 0) {
		return false
	}
	scale := 1 / math.Sqrt(square)
	for i := range v {
		v[i] = float32(float64(v[i]) * scale)
	}
	return true
}
