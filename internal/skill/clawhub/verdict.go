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

// verdict is the registry's own judgement of one version.
type verdict struct {
	OK                                             bool
	Decision                                       string
	Reasons                                        []string
	RequestedSlug, RequestedVersion, Slug, Version string
	Security                                       *struct {
		Status string
		Passed *bool
	}
}

// scannerFindings returns the findings of the registry's scanners on a version. A registry
// without that endpoint is not an error: the finding says so. Faults: Forbidden, if the
// version is blocked; Upstream; UpstreamTimeout.
func (c *Client) scannerFindings(ctx context.Context, ref Ref, version string) ([]scan.Finding, error) {
	item := map[string]string{"slug": ref.Slug, "version": version}
	if ref.Owner != "" {
		item["ownerHandle"] = ref.Owner
	}
	body, err := json.Marshal(map[string]any{"items": []any{item}})
	if err != nil {
		return nil, fmt.Errorf("encode request for a verdict: %w", err)
	}
	resp, err := c.c.Post(ctx, c.c.URL(nil, "api", "v1", "skills", "-", "security-verdicts"), body, maxJSON)
	if fault.Is(err, fault.NotFound) {
		return []scan.Finding{verdictFinding(scan.Info, "The registry has no verdicts on its skills.")}, nil
	}
	if err != nil {
		return nil, err
	}
	var out struct{ Items []verdict }
	if err := decode(resp.Body, &out); err != nil {
		return nil, err
	}
	if len(out.Items) != 1 || !out.Items[0].isAbout(ref, version) {
		return nil, invalidResponse("a verdict on another skill", nil)
	}
	return out.Items[0].findings(ref)
}

// isAbout reports whether the verdict is about a version of a skill.
func (v verdict) isAbout(ref Ref, version string) bool {
	same := func(got, want string) bool { return got == "" || strings.EqualFold(got, want) }
	return same(v.RequestedSlug, ref.Slug) && same(v.Slug, ref.Slug) && same(v.RequestedVersion, version) && same(v.Version, version) &&
		v.RequestedSlug+v.Slug != ""
}

// findings returns the findings of the verdict. Faults: Forbidden, if the version is
// blocked.
func (v verdict) findings(ref Ref) ([]scan.Finding, error) {
	status := ""
	passed := true
	if v.Security != nil {
		status = strings.ToLower(v.Security.Status)
		passed = v.Security.Passed == nil || *v.Security.Passed
	}
	decision := strings.ToLower(v.Decision)
	switch {
	case decision == "blocked" || status == "malicious" || slices.ContainsFunc(v.Reasons, isBlocking):
		return nil, blocked(ref).Because(fmt.Errorf("decision %q, status %q, reasons %q", v.Decision, status, v.Reasons))
	case v.OK && decision == "pass" && passed:
		return nil, nil
	case status == "pending" || status == "stale":
		return []scan.Finding{verdictFinding(scan.Low, "The registry has not finished scanning this version.")}, nil
	}
	return []scan.Finding{verdictFinding(scan.High, "The scanners of the registry do not pass this version.")}, nil
}

// isBlocking reports whether a reason means that the version is malware or blocked.
func isBlocking(reason string) bool {
	reason = strings.ToLower(reason)
	return strings.Contains(reason, "malicious") || strings.Contains(reason, "malware") || strings.HasSuffix(reason, "blocked")
}

func verdictFinding(sev scan.Severity, message string) scan.Finding {
	return scan.Finding{Rule: "registry-verdict", Severity: sev, Message: message}
}
