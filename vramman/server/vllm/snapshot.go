package vllm

// This file is about what the local Hugging Face cache tells of a model.

import (
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

// maxModelLen is the configured context length, but no more than what the model
// was made for, as far as that is known: vLLM refuses to start with more.
func maxModelLen(m server.Model, cache string) int {
	if m.MaxModelLen == 0 {
		return 0
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
