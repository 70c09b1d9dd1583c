// Command vllm-sim is a stand-in for "vllm serve" without a model: see package
// vllmsim for what it does and what its environment decides.
package main

import (
	"os"

	"github.com/vllm-gateway/vllm-gateway/internal/vllmsim"
)

func main() {
	os.Exit(vllmsim.Main(os.Args[1:], os.Stdout, os.Stderr, os.Getenv))
}
