// Command gateway is the test gateway of package runtimetest as a program of its own, which runs in
// containers.
package main

import (
	"fmt"
	"os"

	"agento.host/agento/internal/runtime/runtimetest"
)

func main() {
	runtimetest.Main(func() int {
		fmt.Fprintln(os.Stderr, "usage: gateway gateway -port PORT -home DIR -secrets FILE")
		return 2
	})
}
