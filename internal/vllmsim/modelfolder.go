// What a folder with a model tells of it, when that is what is served: how long its
// contexts are, and what its weights and a token of its cache take.

package vllmsim

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// modelConfig is what the stand-in reads of a config.json: that of a plain
// transformer without anything nested, such as a Llama's.
type modelConfig struct {
	MaxLen    int   `json:"max_position_embeddings"`
	Layers    int64 `json:"num_hidden_layers"`
	Hidden    int64 `json:"hidden_size"`
	Heads     int64 `json:"num_attention_heads"`
	KVHeads   int64 `json:"num_key_value_heads"`
	HeadWidth int64 `json:"head_dim"`
}

// learnModel takes from the served folder what the environment does not say. What
// is no folder with a config.json is only pretended.
func (s *Server) learnModel() error {
	s.ownModelLen = nominalModelLen
	c, err := readModelConfig(s.cfg.Model)
	if err == nil && c != nil {
		err = s.learn(c)
	}
	if s.cfg.KVPerToken == 0 {
		s.cfg.KVPerToken = nominalKVPerToken
	}
	return err
}

// readModelConfig reads a folder's config.json; nil if there is none.
func readModelConfig(folder string) (*modelConfig, error) {
	text, err := os.ReadFile(filepath.Join(folder, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := &modelConfig{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("config.json of the model: %w", err)
	}
	return c, nil
}

func (s *Server) learn(c *modelConfig) error {
	if c.MaxLen > 0 {
		s.ownModelLen, s.fromFolder = c.MaxLen, true
		if s.cfg.MaxModelLen > c.MaxLen {
			return &startError{"arg_utils.py", fmt.Sprintf("ValueError: User-specified max_model_len (%d) is greater than the derived "+
				"max_model_len (max_position_embeddings=%d or model_max_length=None in model's config.json). To allow overriding this "+
				"maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1.", s.cfg.MaxModelLen, c.MaxLen)}
		}
	}
	cards := int64(s.cfg.TensorParallel)
	if per := c.kvPerToken(cards); s.cfg.KVPerToken == 0 && per > 0 {
		s.cfg.KVPerToken = per
	}
	if s.cfg.Weights == 0 {
		files, err := os.ReadDir(s.cfg.Model)
		if err != nil {
			return err
		}
		for _, f := range files {
			if filepath.Ext(f.Name()) != ".safetensors" {
				continue
			}
			n, err := weightBytes(filepath.Join(s.cfg.Model, f.Name()))
			if err != nil {
				return err
			}
			s.cfg.Weights += n / cards
		}
	}
	return nil
}

// weightBytes is how much a safetensors file has behind its header, whose length it
// begins with.
func weightBytes(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	var header uint64
	if err := binary.Read(f, binary.LittleEndian, &header); err != nil || header > uint64(info.Size()-8) {
		return 0, fmt.Errorf("%s of the model is no safetensors file", filepath.Base(path))
	}
	return info.Size() - 8 - int64(header), nil
}

// kvPerToken is what a token of the cache takes on each card, in bytes of 16-bit
// keys and values; 0 if the configuration does not tell.
func (c *modelConfig) kvPerToken(cards int64) int64 {
	width := c.HeadWidth
	if width == 0 && c.Heads > 0 {
		width = c.Hidden / c.Heads
	}
	heads := c.KVHeads
	if heads == 0 {
		heads = c.Heads
	}
	if c.Layers <= 0 || width <= 0 || heads <= 0 {
		return 0
	}
	// Fewer heads than cards are on each.
	return 2 * 2 * c.Layers * max(1, heads/cards) * width
}
