package footprint

// This file reads the headers of safetensors files and the index over several.
// The format: eight bytes with the length N of the header, little endian; N
// bytes of JSON that name each tensor's type, shape and place; the data
// (github.com/huggingface/safetensors, README, "Format").

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

const (
	// safetensorsPrefix is the length of the header's length.
	safetensorsPrefix = 8
	// maxHeader is the longest header that the format's own reader takes.
	maxHeader = 100_000_000
	// maxIndex bounds an index over files, in bytes.
	maxIndex = 32 << 20
)

// headerLength reads the length of a header, in bytes, from the first eight
// bytes of a file of so many bytes.
func headerLength(prefix []byte, fileSize int64) (int64, error) {
	if len(prefix) < safetensorsPrefix {
		return 0, errors.New("it is too short for a safetensors file")
	}
	n := binary.LittleEndian.Uint64(prefix)
	if n < 2 || n > maxHeader {
		return 0, fmt.Errorf("it says its header has %d bytes: it is no safetensors file", n)
	}
	if int64(n) > fileSize-safetensorsPrefix {
		return 0, errors.New("it ends within its header: it was not downloaded whole")
	}
	return int64(n), nil
}

// parseHeader reads a header, without the eight bytes of its length, of a file
// with so many bytes of data behind it. The tensors must fill the data without
// gap or overlap, as the format demands: so a file that was cut, or a shape
// that does not fit its type, is noticed.
func parseHeader(header []byte, data int64) ([]Tensor, error) {
	// Decoding piece by piece keeps what is allocated near the header's own size.
	dec := json.NewDecoder(bytes.NewReader(header))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("its header is not a JSON object")
	}
	type place struct{ begin, end int64 }
	var tensors []Tensor
	var places []place
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("its header is broken: %w", err)
		}
		name, _ := key.(string)
		if name == "__metadata__" {
			var skip json.RawMessage
			if err := dec.Decode(&skip); err != nil {
				return nil, fmt.Errorf("its header is broken: %w", err)
			}
			continue
		}
		var entry struct {
			DType   string  `json:"dtype"`
			Shape   []int64 `json:"shape"`
			Offsets []int64 `json:"data_offsets"`
		}
		if err := dec.Decode(&entry); err != nil {
			return nil, fmt.Errorf("its tensor %q is broken: %w", name, err)
		}
		if len(entry.Offsets) != 2 {
			return nil, fmt.Errorf("its tensor %q has no place", name)
		}
		begin, end := entry.Offsets[0], entry.Offsets[1]
		if begin < 0 || end < begin || end > data {
			return nil, fmt.Errorf("its tensor %q lies outside the file: it was not downloaded whole", name)
		}
		t := Tensor{Name: name, DType: entry.DType, Shape: entry.Shape, Bytes: end - begin}
		if err := t.check(); err != nil {
			return nil, err
		}
		tensors, places = append(tensors, t), append(places, place{begin, end})
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("its header is broken: %w", err)
	}
	slices.SortFunc(places, func(a, b place) int {
		if a.begin != b.begin {
			return compare(a.begin, b.begin)
		}
		return compare(a.end, b.end)
	})
	at := int64(0)
	for _, p := range places {
		if p.begin != at {
			return nil, fmt.Errorf("its tensors leave a gap or overlap at byte %d", min(at, p.begin))
		}
		at = p.end
	}
	if at != data {
		return nil, fmt.Errorf("its tensors have %d bytes and the file %d: it was not downloaded whole, or is damaged", at, data)
	}
	return tensors, nil
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// elementBits is the size of the types of safetensors. One that is missing
// here is taken by its place in the file alone.
var elementBits = map[string]int64{
	"F64": 64, "I64": 64, "U64": 64, "C64": 64,
	"F32": 32, "I32": 32, "U32": 32,
	"F16": 16, "BF16": 16, "I16": 16, "U16": 16,
	"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8,
	"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}

// check says what is wrong with a tensor by itself.
func (t Tensor) check() error {
	for _, n := range t.Shape {
		if n < 0 {
			return fmt.Errorf("its tensor %q has a side of %d", t.Name, n)
		}
	}
	bits, ok := elementBits[t.DType]
	if !ok {
		if t.DType == "" {
			return fmt.Errorf("its tensor %q has no type", t.Name)
		}
		return nil
	}
	if want := product(t.Elements(), bits); ceilDiv(want, 8) != t.Bytes {
		return fmt.Errorf("its tensor %q has %d bytes, and not what its shape %v of %s needs", t.Name, t.Bytes, t.Shape, t.DType)
	}
	return nil
}

// parseIndex reads a model.safetensors.index.json: for each tensor the file
// that it is in.
func parseIndex(text []byte) (map[string]string, error) {
	if len(text) > maxIndex {
		return nil, fmt.Errorf("the index of the weights has more than %d bytes", maxIndex)
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(text, &index); err != nil {
		return nil, fmt.Errorf("the index of the weights is broken: %w", err)
	}
	if len(index.WeightMap) == 0 {
		return nil, errors.New("the index of the weights names no tensor")
	}
	for _, file := range index.WeightMap {
		if !strings.HasSuffix(file, ".safetensors") || !plainName(file) {
			return nil, fmt.Errorf("the index of the weights names %q, which is no safetensors file", file)
		}
	}
	return index.WeightMap, nil
}

// plainName says whether a name is that of a file within a repository, however
// deep, and leads nowhere else.
func plainName(name string) bool {
	return name != "" && path.Clean(name) == name && !path.IsAbs(name) && name != ".." && name != "." &&
		!strings.HasPrefix(name, "../") && !strings.ContainsAny(name, "\\\x00")
}
