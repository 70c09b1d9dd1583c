package footprint

// This file reads the headers of GGUF files (github.com/ggml-org/ggml,
// docs/gguf.md): facts about the model, then a list of tensors.

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

const (
	maxGGUF      = 256 << 20 // bytes of a header; tokens of a vocabulary take some ten millions
	maxGGUFText  = 1 << 12   // bytes of a text that is kept
	maxGGUFFacts = 1 << 16
	maxGGUFSides = 8
	// ggufRead is how much is read at once.
	ggufRead = 4 << 20
)

// ggmlType is how elements are packed.
type ggmlType struct {
	name         string
	block, bytes int64 // elements in a block and its size
}

// ggmlTypes are by their number in the file (ggml.h, enum ggml_type, and the
// sizes of the blocks in ggml-common.h).
var ggmlTypes = map[uint32]ggmlType{
	0: {"F32", 1, 4}, 1: {"F16", 1, 2}, 2: {"q4_0", 32, 18}, 3: {"q4_1", 32, 20},
	6: {"q5_0", 32, 22}, 7: {"q5_1", 32, 24}, 8: {"q8_0", 32, 34}, 9: {"q8_1", 32, 36},
	10: {"q2_k", 256, 84}, 11: {"q3_k", 256, 110}, 12: {"q4_k", 256, 144}, 13: {"q5_k", 256, 176},
	14: {"q6_k", 256, 210}, 15: {"q8_k", 256, 292}, 16: {"iq2_xxs", 256, 66}, 17: {"iq2_xs", 256, 74},
	18: {"iq3_xxs", 256, 98}, 19: {"iq1_s", 256, 50}, 20: {"iq4_nl", 32, 18}, 21: {"iq3_s", 256, 110},
	22: {"iq2_s", 256, 82}, 23: {"iq4_xs", 256, 136}, 24: {"I8", 1, 1}, 25: {"I16", 1, 2},
	26: {"I32", 1, 4}, 27: {"I64", 1, 8}, 28: {"F64", 1, 8}, 29: {"iq1_m", 256, 56}, 30: {"BF16", 1, 2},
	34: {"tq1_0", 256, 54}, 35: {"tq2_0", 256, 66}, 39: {"mxfp4", 32, 17},
}

// gguf is the header of one file.
type gguf struct {
	facts   map[string]any // int64, float64, bool, string; of lists their length as a listLength
	tensors []Tensor
}

// listLength stands for a list, whose elements are not kept.
type listLength int64

// ggufReader reads numbers and keeps the first error.
type ggufReader struct {
	r   *bufio.Reader
	at  int64 // bytes read
	err error
}

func (g *ggufReader) fail(format string, args ...any) {
	if g.err == nil {
		g.err = fmt.Errorf(format, args...)
	}
}

// bytes reads n bytes, which the caller has bounded.
func (g *ggufReader) bytes(n int64) []byte {
	if g.err != nil {
		return nil
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(g.r, b); err != nil {
		g.broken(err)
		return nil
	}
	g.at += n
	return b
}

// broken keeps an error of reading; the end of the file comes too early.
func (g *ggufReader) broken(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends within its header, or the header is longer than any")
	}
	g.fail("%w", err)
}

func (g *ggufReader) skip(n uint64) {
	for n > 0 && g.err == nil {
		step := int(min(n, 1<<20))
		done, err := g.r.Discard(step)
		g.at, n = g.at+int64(done), n-uint64(done)
		if err != nil {
			g.broken(err)
		}
	}
}

func (g *ggufReader) u32() uint32 {
	if b := g.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (g *ggufReader) u64() uint64 {
	if b := g.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// text reads a text; one that is too long to be kept is skipped.
func (g *ggufReader) text() string {
	n := g.u64()
	if n > maxGGUFText {
		g.skip(n)
		return ""
	}
	return string(g.bytes(int64(n)))
}

// The types of facts, by their number in the file.
const (
	ggufText = 8
	ggufList = 9
)

// ggufWidths are the sizes of facts of constant size: numbers, a boolean.
var ggufWidths = map[uint32]int64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

// fact reads a value.
func (g *ggufReader) fact(kind uint32) any {
	switch kind {
	case ggufText:
		return g.text()
	case ggufList:
		inner, n := g.u32(), g.u64()
		g.list(inner, n)
		return listLength(min(n, math.MaxInt64))
	}
	width, ok := ggufWidths[kind]
	if !ok {
		g.fail("it has a fact of type %d, which is not known", kind)
		return nil
	}
	b := g.bytes(width)
	if b == nil {
		return nil
	}
	var wide [8]byte
	copy(wide[:], b)
	n := binary.LittleEndian.Uint64(wide[:])
	switch kind {
	case 1:
		return int64(int8(n))
	case 3:
		return int64(int16(n))
	case 5:
		return int64(int32(n))
	case 6:
		return float64(math.Float32frombits(uint32(n)))
	case 7:
		return n != 0
	case 12:
		return math.Float64frombits(n)
	}
	return int64(min(n, math.MaxInt64))
}

// list skips the elements of a list.
func (g *ggufReader) list(kind uint32, n uint64) {
	switch kind {
	case ggufList:
		g.fail("it has a list of lists")
	case ggufText:
		for ; n > 0 && g.err == nil; n-- {
			g.skip(g.u64())
		}
	default:
		width, ok := ggufWidths[kind]
		if !ok || n > maxGGUF {
			g.fail("it has a list of %d elements of type %d", n, kind)
			return
		}
		g.skip(n * uint64(width))
	}
}

// parseGGUF reads a header from the beginning of a file of so many bytes.
func parseGGUF(r io.Reader, fileSize int64) (gguf, error) {
	g := &ggufReader{r: bufio.NewReaderSize(io.LimitReader(r, maxGGUF), 64<<10)}
	if magic := g.bytes(4); g.err == nil && string(magic) != "GGUF" {
		return gguf{}, errors.New("it is no GGUF file")
	}
	if version := g.u32(); g.err == nil && (version < 2 || version > 3) {
		return gguf{}, fmt.Errorf("it is of GGUF's version %d, which is not known", version)
	}
	tensors, facts := g.u64(), g.u64()
	if g.err == nil && facts > maxGGUFFacts {
		return gguf{}, fmt.Errorf("it has %d facts", facts)
	}
	h := gguf{facts: map[string]any{}}
	for ; facts > 0 && g.err == nil; facts-- {
		key := g.text()
		h.facts[key] = g.fact(g.u32())
	}
	type place struct{ offset, bytes uint64 }
	var places []place
	for ; tensors > 0 && g.err == nil; tensors-- { // nothing is allocated for tensors that do not come
		t, offset := g.tensor()
		h.tensors, places = append(h.tensors, t), append(places, place{offset, uint64(t.Bytes)})
	}
	if g.err != nil {
		return gguf{}, g.err
	}
	step, ok := h.facts["general.alignment"].(int64)
	if !ok || step <= 0 || step > 1<<20 {
		step = 32
	}
	data := fileSize - ceilDiv(g.at, step)*step
	for i, p := range places {
		if data < 0 || p.offset > uint64(data) || p.bytes > uint64(data)-p.offset {
			return gguf{}, fmt.Errorf("its tensor %q lies outside the file: it was not downloaded whole", h.tensors[i].Name)
		}
	}
	return h, nil
}

// tensor reads one entry of the list.
func (g *ggufReader) tensor() (Tensor, uint64) {
	t := Tensor{Name: g.text()}
	sides := g.u32()
	if sides > maxGGUFSides {
		g.fail("its tensor %q has %d sides", t.Name, sides)
	}
	for ; sides > 0 && g.err == nil; sides-- {
		n := g.u64()
		if n > 1<<40 {
			g.fail("its tensor %q has a side of %d", t.Name, n)
		}
		// The file has the side that is together in memory first.
		t.Shape = append([]int64{int64(n)}, t.Shape...)
	}
	kind, offset := g.u32(), g.u64()
	if g.err != nil {
		return t, 0
	}
	packed, ok := ggmlTypes[kind]
	if !ok {
		g.fail("its tensor %q is of type %d, whose size is not known", t.Name, kind)
		return t, 0
	}
	if n := len(t.Shape); n > 0 && t.Shape[n-1]%packed.block != 0 {
		g.fail("its tensor %q has rows of %d, and %s is in blocks of %d", t.Name, t.Shape[n-1], packed.name, packed.block)
	}
	t.DType, t.Bytes = packed.name, product(t.Elements()/packed.block, packed.bytes)
	return t, offset
}

// config makes a configuration of a header's facts, for the architectures
// whose attention is plain.
func (h gguf) config() (Config, error) {
	arch, _ := h.facts["general.architecture"].(string)
	switch arch {
	case "llama", "qwen2", "qwen2moe", "qwen3", "qwen3moe":
	default:
		return Config{}, fmt.Errorf("the memory of GGUF's architecture %q is not known without a config.json", arch)
	}
	if n, ok := h.facts[arch+".attention.sliding_window"].(int64); ok && n > 0 {
		return Config{}, fmt.Errorf("how GGUF's architecture %q uses its window is not known", arch)
	}
	// The facts under the names of config.json are read as strictly as one.
	var text strings.Builder
	text.WriteString(`{"tie_word_embeddings": false`)
	for _, f := range []struct{ key, fact string }{
		{"num_hidden_layers", "block_count"},
		{"hidden_size", "embedding_length"},
		{"intermediate_size", "feed_forward_length"},
		{"num_attention_heads", "attention.head_count"},
		{"num_key_value_heads", "attention.head_count_kv"},
		{"head_dim", "attention.key_length"},
		{"vocab_size", "vocab_size"},
		{"num_experts", "expert_count"},
		{"num_experts_per_tok", "expert_used_count"},
		{"moe_intermediate_size", "expert_feed_forward_length"},
	} {
		switch v := h.facts[arch+"."+f.fact].(type) {
		case nil:
		case int64:
			fmt.Fprintf(&text, `, %q: %d`, f.key, v)
		default:
			return Config{}, fmt.Errorf("%s.%s is not one number: it differs between layers", arch, f.fact)
		}
	}
	if n, ok := h.facts["tokenizer.ggml.tokens"].(listLength); ok && h.facts[arch+".vocab_size"] == nil {
		fmt.Fprintf(&text, `, "vocab_size": %d`, n)
	}
	if k, v := h.facts[arch+".attention.key_length"], h.facts[arch+".attention.value_length"]; k != nil && v != nil && k != v {
		return Config{}, fmt.Errorf("%s has keys of %v and values of %v", arch, k, v)
	}
	text.WriteString(`, "model_type": "llama"}`)
	c, err := parseConfig([]byte(text.String()))
	c.Type, c.Quantization = arch, "gguf"
	return c, err
}

// length is the longest context that the model was made for, in tokens; 0 where
// the header does not say so plainly, as where positions are stretched.
func (h gguf) length() int {
	arch, _ := h.facts["general.architecture"].(string)
	n, _ := h.facts[arch+".context_length"].(int64)
	if factor, ok := h.facts[arch+".rope.scaling.factor"].(float64); ok && factor != 1 && factor != 0 {
		return 0
	}
	if n <= 0 || n > maxTokens {
		return 0
	}
	return int(n)
}

// sourceReader reads a file of a source from its beginning on.
type sourceReader struct {
	ctx  context.Context //nolint:containedctx // the reader lives within one call
	src  Source
	name string
	at   int64
	size int64
	have []byte
}

// Read is io.Reader's.
func (s *sourceReader) Read(p []byte) (int, error) {
	if len(s.have) == 0 {
		n := min(ggufRead, s.size-s.at)
		if n <= 0 {
			return 0, io.EOF
		}
		b, err := s.src.Read(s.ctx, s.name, s.at, n)
		if err != nil {
			return 0, err
		}
		s.have, s.at = b, s.at+n
	}
	n := copy(p, s.have)
	s.have = s.have[n:]
	return n, nil
}
