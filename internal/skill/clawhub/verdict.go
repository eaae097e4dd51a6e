package clawhub

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/skill/scan"
)

// said is the registry's own judgement of one version.
type said struct {
	OK                                             bool
	Decision                                       string
	Reasons                                        []string
	RequestedSlug, RequestedVersion, Slug, Version string
	Security                                       *struct {
		Status string
		Passed *bool
	}
}

// verdict asks what the registry's scanners found. A registry that has no such
// endpoint is taken to know nothing. Faults: Forbidden, Upstream, UpstreamTimeout.
func (c *Client) verdict(ctx context.Context, ref Ref, version string) ([]scan.Finding, error) {
	item := map[string]string{"slug": ref.Slug, "version": version}
	if ref.Owner != "" {
		item["ownerHandle"] = ref.Owner
	}
	body, err := json.Marshal(map[string]any{"items": []any{item}})
	if err != nil {
		return nil, fmt.Errorf("ask for a verdict: %w", err)
	}
	a, err := c.c.Post(ctx, c.c.URL(nil, "api", "v1", "skills", "-", "security-verdicts"), body, maxJSON)
	if fault.Is(err, fault.NotFound) {
		return []scan.Finding{verdict(scan.Info, "The registry gives no verdict on its skills.")}, nil
	}
	if err != nil {
		return nil, err
	}
	var answer struct{ Items []said }
	if err := decode(a.Body, &answer); err != nil {
		return nil, err
	}
	if len(answer.Items) != 1 || !answer.Items[0].about(ref, version) {
		return nil, nonsense("a verdict on another skill", nil)
	}
	return answer.Items[0].findings(ref)
}

func (s said) about(ref Ref, version string) bool {
	same := func(got, want string) bool { return got == "" || strings.EqualFold(got, want) }
	return same(s.RequestedSlug, ref.Slug) && same(s.Slug, ref.Slug) && same(s.RequestedVersion, version) && same(s.Version, version) &&
		s.RequestedSlug+s.Slug != ""
}

func (s said) findings(ref Ref) ([]scan.Finding, error) {
	status := ""
	passed := true
	if s.Security != nil {
		status = strings.ToLower(s.Security.Status)
		passed = s.Security.Passed == nil || *s.Security.Passed
	}
	decision := strings.ToLower(s.Decision)
	switch {
	case decision == "blocked" || status == "malicious" || slices.ContainsFunc(s.Reasons, blocking):
		return nil, blocked(ref).Because(fmt.Errorf("decision %q, status %q, reasons %q", s.Decision, status, s.Reasons))
	case s.OK && decision == "pass" && passed:
		return nil, nil
	case status == "pending" || status == "stale":
		return []scan.Finding{verdict(scan.Low, "The registry has not finished scanning this version.")}, nil
	}
	return []scan.Finding{verdict(scan.High, "The registry's scanners do not pass this version.")}, nil
}

func blocking(reason string) bool {
	reason = strings.ToLower(reason)
	return strings.Contains(reason, "malicious") || strings.Contains(reason, "malware") || strings.HasSuffix(reason, "blocked")
}

func verdict(sev scan.Severity, message string) scan.Finding {
	return scan.Finding{Rule: "registry-verdict", Severity: sev, Message: message}
}
