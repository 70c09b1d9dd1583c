package vllm

// This file is about what the local Hugging Face cache tells of a model.

import (
	"slices"
	"strings"

	"github.com/vllm-gateway/vllm-gateway/internal/hfcache"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// snapshot finds the model in the cache.
func snapshot(m server.Model, cache string) (hfcache.Snapshot, error) {
	if cache == "" {
		return hfcache.Snapshot{}, hfcache.ErrMissing
	}
	return hfcache.Find(cache, m.Repo)
}

// whole says whether all that a server loads of the model is in the cache. Of a
// GGUF repository that is the one model with all its parts, and a configuration
// and a tokenizer beside it: without these vLLM asks the hub for those of the
// model that it was made from.
func whole(m server.Model, cache string) bool {
	s, err := snapshot(m, cache)
	if err != nil {
		return false
	}
	if m.File == "" {
		return s.Complete()
	}
	_, err = pickLocal(s.Folder, m.File)
	return err == nil && s.Described()
}

// maxModelLen is the configured context length, but no more than what the model
// was made for, as far as that is known: vLLM refuses to start with more. Of
// another revision than the main branch nothing is known.
func maxModelLen(m server.Model, cache string) int {
	if m.MaxModelLen == 0 || revision(m.Args) != "" {
		return m.MaxModelLen
	}
	s, err := snapshot(m, cache)
	if err != nil {
		return m.MaxModelLen
	}
	if native := s.NativeLength(); native > 0 {
		return min(m.MaxModelLen, native)
	}
	return m.MaxModelLen
}

// needsMore says whether arguments name what the snapshot of the repository's
// main branch does not hold: another revision, another repository, or code that
// may be in one. With these, that the snapshot is complete does not mean that the
// server can do without the network.
func needsMore(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool {
		name, _, _ := strings.Cut(arg, "=")
		name, _, _ = strings.Cut(name, ".") // --speculative-config.model
		name = strings.ReplaceAll(strings.TrimLeft(name, "-"), "_", "-")
		// A beginning of a name serves as well, and -sc is short for the last.
		return strings.HasPrefix(arg, "-") && (name == "sc" || len(name) > 2 &&
			slices.ContainsFunc(moreFlags, func(f string) bool { return strings.HasPrefix(f, name) }))
	})
}

// moreFlags are vLLM's flags by which a server loads something besides the main
// branch of its repository (vLLM vllm/engine/arg_utils.py).
var moreFlags = []string{
	"revision", "code-revision", "tokenizer", "tokenizer-revision", "hf-config-path", "trust-remote-code",
	"generation-config", "lora-modules", "speculative-config", "spec-model",
}

// revision is the revision that arguments name for the repository, or empty.
func revision(args []string) string {
	found := ""
	for _, f := range flags(args) {
		if f.name == "revision" && f.value() != "" {
			found = f.value()
		}
	}
	return found
}
