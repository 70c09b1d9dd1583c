package footprint

// This file owns what a measurement of a part depends on.

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Signature is the hash of all that one part's size depends on. Equal
// signatures mean that a measurement of the one holds for the other.
type Signature string

// Signatures are those of the parts.
type Signatures struct {
	Weights    Signature
	Activation Signature
	Graphs     Signature
	Context    Signature
	KV         Signature // of one sequence of the longest context
}

// signatures hashes for each part what it depends on, and nothing else: the
// weights' says nothing of max_model_len, so their measurement survives it.
func signatures(c Config, w Weights, l Launch, kv KV) Signatures {
	model := sign("model", string(c.identity()), string(w.identity()))
	where := []any{model, l.Server, l.Card, l.TensorParallel, l.DType, l.Quantization, l.LanguageOnly}
	batch := append(append([]any{}, where...), l.MaxNumBatchedTokens, l.MaxNumSeqs)
	for _, layer := range c.Layers {
		if layer.Kind == MLA {
			// Its workspace for long prompts grows with the context.
			batch = append(batch, l.MaxModelLen)
			break
		}
	}
	return Signatures{
		Weights:    sign(append([]any{"weights"}, where...)...),
		Activation: sign(append([]any{"activation", l.KVCacheDType, l.EnforceEager}, batch...)...),
		Graphs:     sign(append([]any{"graphs", l.KVCacheDType, l.EnforceEager, l.MaxNumSeqs}, where...)...),
		Context:    sign(append([]any{"context", l.EnforceEager}, where...)...),
		KV:         sign(append([]any{"kv", kv, l.KVCacheDType, l.MaxModelLen}, where...)...),
	}
}

// sign hashes values, each with its length, so that none runs into the next.
func sign(values ...any) Signature {
	b, err := json.Marshal(values)
	if err != nil {
		panic(err) // plain values cannot fail
	}
	h := sha256.Sum256(b)
	return Signature(hex.EncodeToString(h[:16]))
}
