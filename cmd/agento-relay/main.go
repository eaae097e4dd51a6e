//go:build linux

// Command agento-relay is the first process of an agent's container. It launches the gateway,
// and is the only way into the container and out of it. It is static and small, because it is in
// every image.
package main

import (
	"os"

	"agento.host/agento/internal/runtime/relay/container"
)

func main() { os.Exit(container.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
