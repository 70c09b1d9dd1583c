package vllm

import (
	"slices"

	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file owns the adapters that a server is launched with.

// loraArgs are the arguments for a model's adapters, as vLLM's
// vllm/entrypoints/openai/cli_args.py (LoRAParserAction) reads them.
func loraArgs(adapters []server.LoRA) []string {
	if len(adapters) == 0 {
		return nil
	}
	args := []string{"--enable-lora", "--lora-modules"}
	for _, a := range adapters {
		args = append(args, a.Name+"="+a.Path)
	}
	return args
}

// fetchesAdapters says whether a model's server gets adapters from the hub while it
// starts: the gateway does not bring them itself.
func fetchesAdapters(m server.Model) bool {
	return slices.ContainsFunc(m.LoRA, func(a server.LoRA) bool { return !isFolder(a.Path) })
}

// isFolder says whether what a model's or an adapter's files are in is a folder,
// not a repository.
func isFolder(path string) bool { return path != "" && (path[0] == '/' || path[0] == '.') }
