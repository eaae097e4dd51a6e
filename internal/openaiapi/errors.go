package openaiapi

import (
	"encoding/json"
	"net/http"

	"agento.host/agento/internal/fault"
)

// errorObject is an error as OpenAI's clients read it.
type errorObject struct {
	Error errorBody `json:"error"`
}

type errorBody struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    string  `json:"code"`
}

// fail writes a fault. Clients repeat 409, 429 and everything from 500 by themselves: they are
// told not to if the same request would fail again, or would have a turn done twice.
func fail(w http.ResponseWriter, f *fault.Fault, status int) {
	if f.Code != fault.RateLimited && f.Code != fault.Unavailable {
		w.Header().Set("X-Should-Retry", "false")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(newErrorObject(f)) // fails if the client has disconnected
}

func newErrorObject(f *fault.Fault) errorObject {
	body := errorBody{Message: f.Message, Type: "invalid_request_error", Code: string(f.Code)}
	switch f.Code {
	case fault.Unauthorized:
		body.Type, body.Code = "authentication_error", "invalid_api_key"
	case fault.Forbidden, fault.PlanLimit:
		body.Type = "permission_error"
	case fault.RateLimited:
		body.Type, body.Code = "rate_limit_error", "rate_limit_exceeded"
	case fault.Internal, fault.Upstream, fault.UpstreamTimeout, fault.Unavailable:
		body.Type = "server_error"
	case fault.NotFound:
		if f.Details[modelParam] != "" {
			body.Code = "model_not_found"
		}
	}
	if len(f.Details) == 1 && body.Type == "invalid_request_error" {
		for name := range f.Details {
			body.Param = &name
		}
	}
	return errorObject{body}
}
