// POST /v1/embeddings.

package vllmsim

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"net/http"
)

type embeddingRequest struct {
	Model      *string `json:"model"`
	Input      inputs  `json:"input"`
	Encoding   string  `json:"encoding_format"`
	Dimensions *int    `json:"dimensions"`
	Priority   int     `json:"priority"`
}

type embedding struct {
	Index     int    `json:"index"`
	Object    string `json:"object"`
	Embedding any    `json:"embedding"` // []float32, or a string of them in base64
}

func (s *Server) embeddings(w http.ResponseWriter, c *call) error {
	var req embeddingRequest
	if err := decode(c.request, &req); err != nil {
		return err
	}
	if err := req.Input.check("input"); err != nil {
		return err
	}
	model, err := s.checkModel(req.Model)
	if err != nil {
		return err
	}
	size := s.cfg.EmbeddingSize
	if req.Dimensions != nil {
		size = *req.Dimensions
	}
	if size < 1 || size > s.cfg.EmbeddingSize {
		return badRequest("dimensions", fmt.Sprintf("dimensions must be between 1 and %d, got %d.", s.cfg.EmbeddingSize, size))
	}
	if req.Encoding == "" {
		req.Encoding = "float"
	}
	if req.Encoding != "float" && req.Encoding != "base64" {
		return badRequest("encoding_format", fmt.Sprintf("encoding_format must be 'float' or 'base64', got '%s'.", req.Encoding))
	}
	if err := (&sampling{Priority: req.Priority}).check(&s.cfg); err != nil {
		return err
	}
	for _, text := range req.Input {
		if _, err := (&sampling{}).limit(countTokens(text), s.loaded.modelLen+1); err != nil {
			return err
		}
	}
	if err := s.run(c.ctx, job{prompt: req.Input.tokens(), hangs: c.hangs}, nil); err != nil {
		return err
	}
	data := make([]embedding, len(req.Input))
	for i, text := range req.Input {
		v := embed(text, s.cfg.EmbeddingSize, size)
		data[i] = embedding{Index: i, Object: "embedding", Embedding: v}
		if req.Encoding == "base64" {
			data[i].Embedding = encodeVector(v)
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"id": "embd-" + c.id, "object": "list", "created": c.arrival.Unix(), "model": model,
		"data": data, "usage": newUsage(req.Input.tokens(), 0),
	})
	return nil
}

// embed makes a text's vector of length 1: the same for the same text, the first
// parts of a long one in a short one.
func embed(text string, full, size int) []float32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	random := rand.New(rand.NewPCG(h.Sum64(), uint64(full)))
	v := make([]float32, size)
	var square float64
	for i := range v {
		x := random.NormFloat64()
		v[i] = float32(x)
		square += x * x
	}
	for i := range v {
		v[i] /= float32(math.Sqrt(square))
	}
	return v
}

// encodeVector is a vector's little-endian bytes in base64.
func encodeVector(v []float32) string {
	var raw []byte
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(raw)
}
