package vllm

// This file has models' files for the tests, and a hub that has them.

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// small is a model that is easy to count: two layers of 4 heads of keys of 8
	// elements, 256 bytes of cache per token.
	small = `{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 256, "vocab_size": 128, "dtype": "bfloat16", "max_position_embeddings": 4096}`
	novel = `{"model_type": "novel", "max_position_embeddings": 4096}`
	sha   = "0123456789abcdef0123456789abcdef01234567"
	token = "hf_secret"
)

// safetensors writes a file of two tensors, whose data are zeros.
func safetensors() []byte {
	header, err := json.Marshal(map[string]any{
		"model.embed_tokens.weight":                  map[string]any{"dtype": "BF16", "shape": []int{128, 64}, "data_offsets": []int{0, 16384}},
		"model.layers.1.self_attn.k_proj.weight":     map[string]any{"dtype": "BF16", "shape": []int{32, 64}, "data_offsets": []int{16384, 20480}},
		"model.layers.1.mlp.down_proj.weight_scales": map[string]any{"dtype": "U8", "shape": []int{1 << 20}, "data_offsets": []int{20480, 20480 + 1<<20}},
	})
	if err != nil {
		panic(err)
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, 20480+1<<20)...)
}

const smallWeights = 20480 + 1<<20

// gguf writes a file with one tensor of 256 times 64 numbers of 32 bits.
func gguf() []byte {
	var b []byte
	put := func(values ...any) {
		for _, v := range values {
			if s, ok := v.(string); ok {
				b = append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
				continue
			}
			b, _ = binary.Append(b, binary.LittleEndian, v)
		}
	}
	b = []byte("GGUF")
	facts := map[string]uint32{"block_count": 2, "embedding_length": 64, "feed_forward_length": 256, "attention.head_count": 8, "attention.head_count_kv": 4, "context_length": 2048}
	put(uint32(3), uint64(1), uint64(len(facts)+1), "general.architecture", uint32(8), "qwen3")
	for name, n := range facts {
		put("qwen3."+name, uint32(4), n)
	}
	put("blk.1.ffn_norm.weight", uint32(2), uint64(64), uint64(256), uint32(0), uint64(0))
	return append(b, make([]byte, 32-len(b)%32+256*64*4)...)
}

func repository(config string) map[string][]byte {
	return map[string][]byte{"config.json": []byte(config), "tokenizer.json": []byte("{}"), "model.safetensors": safetensors()}
}

// inCache writes a repository's files as a snapshot.
func inCache(t *testing.T, cache, repo, hash string, files map[string][]byte) {
	t.Helper()
	root := filepath.Join(cache, "hub", "models--"+strings.ReplaceAll(repo, "/", "--"))
	all := map[string][]byte{"refs/main": []byte(hash)}
	for name, b := range files {
		all["snapshots/"+hash+"/"+name] = b
	}
	for name, b := range all {
		at := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// fakeHub answers as the hub does, for one repository, to who has the token.
type fakeHub struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte
	asked []string // paths, with the range
}

func newFakeHub(t *testing.T, files map[string][]byte) *fakeHub {
	h := &fakeHub{files: files}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.asked = append(h.asked, r.URL.Path+" "+r.Header.Get("Range"))
		if r.Header.Get("Authorization") != "Bearer "+token {
			http.Error(w, "Access to model org/name is restricted", http.StatusUnauthorized)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/api/models/org/name/revision/") {
			var list []map[string]any
			for name, b := range h.files {
				list = append(list, map[string]any{"rfilename": name, "size": len(b)})
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"sha": sha, "siblings": list})
			return
		}
		b, ok := h.files[strings.TrimPrefix(r.URL.Path, "/org/name/resolve/"+sha+"/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	}))
	t.Cleanup(h.Close)
	return h
}

// requests are what was asked since the last time.
func (h *fakeHub) requests() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	asked := h.asked
	h.asked = nil
	return asked
}

func (h *fakeHub) env(more ...string) []string {
	return append([]string{"HF_ENDPOINT=" + h.URL, "HF_TOKEN=" + token}, more...)
}
