package trace

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// Start begins to export spans if the standard variables of OpenTelemetry ask for it:
// OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, or OTEL_TRACES_EXPORTER=otlp.
// The libraries of OpenTelemetry read the others, such as OTEL_EXPORTER_OTLP_HEADERS,
// OTEL_TRACES_SAMPLER and OTEL_SERVICE_NAME.
//
// It returns where the spans go to, empty for nowhere, and what sends those that wait and
// ends the export. A collector that does not answer is logged; nothing waits for it.
func Start(ctx context.Context, version string, log *slog.Logger) (endpoint string, stop func(context.Context) error, err error) {
	none := func(context.Context) error { return nil }
	if !asked() {
		return "", none, nil
	}
	exporter, endpoint, err := newExporter(ctx)
	if err != nil {
		return "", none, err
	}
	described, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "agento"), attribute.String("service.version", version)),
		resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil {
		return "", none, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("exporting traces failed", "error", err) }))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(described))
	otel.SetTracerProvider(provider)
	return endpoint, provider.Shutdown, nil
}

// asked reports whether the environment asks for traces.
func asked() bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	switch os.Getenv("OTEL_TRACES_EXPORTER") {
	case "":
		return tracesEndpoint() != ""
	case "none":
		return false
	}
	return true
}

func tracesEndpoint() string {
	return cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
}

// shown returns an endpoint without the name and the password that it may have.
func shown(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return endpoint
	}
	return u.Scheme + "://" + u.Host + u.Path
}

// newExporter returns the exporter that the environment names, and its endpoint as it is
// shown.
func newExporter(ctx context.Context) (sdk.SpanExporter, string, error) {
	if name := os.Getenv("OTEL_TRACES_EXPORTER"); name != "" && name != "otlp" {
		return nil, "", fmt.Errorf("OTEL_TRACES_EXPORTER is otlp or none, not %q", name)
	}
	switch protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf"); protocol {
	case "grpc":
		exporter, err := otlptracegrpc.New(ctx)
		return exporter, shown(cmp.Or(tracesEndpoint(), "localhost:4317")), err
	case "http/protobuf":
		exporter, err := otlptracehttp.New(ctx)
		return exporter, shown(cmp.Or(tracesEndpoint(), "http://localhost:4318")), err
	default:
		return nil, "", fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is grpc or http/protobuf, not %q", protocol)
	}
}
