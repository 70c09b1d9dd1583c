package hfcache

import (
	"encoding/json"
	"math"
	"path/filepath"
)

// This file reads the length of a model's context from its configuration.

// lengthKeys are the keys under which configurations keep the length.
var lengthKeys = []string{
	"max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length", "max_sequence_length", "max_seq_length", "seq_len",
}

// NativeLength is the longest context, in tokens, that the model was made for;
// 0 when its configuration does not say so plainly.
//
// It follows vLLM's _get_and_verify_max_len (vllm/config/model.py) as far as
// that needs no knowledge of single models: the smallest of the keys that name
// a length, in the text model's own part where the configuration nests, and
// the positions that YaRN stretches. Other ways of stretching are left to vLLM.
func (s Snapshot) NativeLength() int {
	b, err := read(filepath.Join(s.Folder, "config.json"), maxJSON)
	if err != nil {
		return 0
	}
	return NativeLength(b)
}

// NativeLength is like that of a snapshot, for the text of a config.json.
func NativeLength(config []byte) int {
	var c map[string]json.RawMessage
	if json.Unmarshal(config, &c) != nil {
		return 0
	}
	if text, ok := c["text_config"]; ok {
		c = nil
		if json.Unmarshal(text, &c) != nil {
			return 0
		}
	}
	least := 0
	for _, key := range lengthKeys {
		var n int
		if json.Unmarshal(c[key], &n) == nil && n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	for _, key := range []string{"rope_scaling", "rope_parameters"} {
		if raw, ok := c[key]; ok && least > 0 {
			least = stretched(raw, least)
		}
	}
	return least
}

// stretched is the length after a part about rotary positions has had its say;
// 0 when it is not understood.
func stretched(raw json.RawMessage, length int) int {
	if string(raw) == "null" {
		return length
	}
	var part struct {
		Type     string  `json:"rope_type"`
		OldType  string  `json:"type"`
		Factor   float64 `json:"factor"`
		Original float64 `json:"original_max_position_embeddings"`
	}
	if json.Unmarshal(raw, &part) != nil {
		return 0
	}
	if part.Type == "" {
		part.Type = part.OldType
	}
	switch part.Type {
	case "default", "mrope", "proportional", "llama3", "su", "longrope":
		return length // the length says it all
	case "yarn":
		if total := part.Original * part.Factor; total >= 1 && total <= math.MaxInt32 {
			return int(total)
		}
		return 0
	case "":
		return perLayer(raw, length)
	}
	return 0
}

// perLayer is for models that have such a part for each kind of layer.
func perLayer(raw json.RawMessage, length int) int {
	var kinds map[string]json.RawMessage
	if json.Unmarshal(raw, &kinds) != nil {
		return 0
	}
	for _, kind := range kinds {
		var inner map[string]json.RawMessage
		if json.Unmarshal(kind, &inner) != nil {
			if _, plain := kinds["rope_theta"]; plain {
				continue // one part without a type, which is the default one
			}
			return 0
		}
		if stretched(kind, length) != length {
			return 0
		}
	}
	if _, scaled := kinds["factor"]; scaled {
		return 0
	}
	return length
}
