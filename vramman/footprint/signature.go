package footprint

// This file owns what a measurement of a part depends on.

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
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
	// The workspace of latent attention for long prompts grows with the context.
	latent := slices.ContainsFunc(c.Layers, func(l Layer) bool { return l.Kind == MLA })
	return l.signatures(model, kv, latent)
}

// unknown are the signatures of a model whose files do not tell its memory: each
// part that could depend on something does, and the cache on all that its
// formula would be made from.
func (l Launch) unknown(model Signature) Signatures {
	return l.signatures(model, []any{l.MaxNumBatchedTokens, l.BlockSize, l.MambaCacheMode, l.SyncScheduling, l.WholeWindows}, true)
}

func (l Launch) signatures(model Signature, kv any, growing bool) Signatures {
	other := append([]string{}, l.Other...) // nil and none are the same
	where := []any{model, l.Server, l.Card, l.TensorParallel, l.DType, l.Quantization, l.LanguageOnly, other}
	batch := append(append([]any{}, where...), l.MaxNumBatchedTokens, l.MaxNumSeqs)
	if growing {
		batch = append(batch, l.MaxModelLen)
	}
	return Signatures{
		Weights:    sign(append([]any{"weights"}, where...)...),
		Activation: sign(append([]any{"activation", l.KVCacheDType, l.EnforceEager}, batch...)...),
		Graphs:     sign(append([]any{"graphs", l.KVCacheDType, l.EnforceEager, l.MaxNumSeqs}, where...)...),
		Context:    sign(append([]any{"context", l.EnforceEager, l.Sleep}, where...)...),
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
