package footprint

// This file owns measurements: what is kept of them, how a new one joins, and
// how they are written down. Where they are written is somebody else's business.

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Part is one part of a footprint.
type Part string

// The parts.
const (
	PartWeights    Part = "weights"
	PartActivation Part = "activation"
	PartGraphs     Part = "graphs"
	PartContext    Part = "context"
	PartKV         Part = "kv" // of one sequence of the longest context
	// PartRest is activation, graphs and context together, where they cannot be
	// told apart: NVML's figure less what vLLM says of weights and cache.
	PartRest Part = "rest"
)

var partNames = []Part{PartActivation, PartContext, PartGraphs, PartKV, PartRest, PartWeights}

// Of is the signature of a part.
func (s Signatures) Of(p Part) Signature {
	switch p {
	case PartWeights:
		return s.Weights
	case PartActivation:
		return s.Activation
	case PartGraphs:
		return s.Graphs
	case PartContext:
		return s.Context
	case PartKV:
		return s.KV
	case PartRest:
		return sign("rest", s.Activation, s.Graphs, s.Context)
	}
	return ""
}

// Record is one measurement: on the card that had most.
type Record struct {
	Part      Part      `json:"part"`
	Signature Signature `json:"signature"`
	Bytes     int64     `json:"bytes"` // the most that was seen
	Model     string    `json:"model"` // its name, for people
	Seen      int64     `json:"seen"`  // seconds since 1970, of the last measurement
	Count     int       `json:"count"` // measurements
}

// Measured holds records, one for each part and signature. It is a value:
// [Measured.With] gives a new one. The zero Measured is empty.
type Measured struct {
	records []Record // in the order of part and signature
}

// mostRecords bounds what is kept. The oldest go first.
const mostRecords = 10_000

// With adds a measurement. One that was made under the same signature is
// merged with it: the larger counts. All other records stay as they are, those
// of other signatures of the same model too.
func (m Measured) With(r Record) (Measured, error) {
	r.Count = max(r.Count, 1)
	if err := r.check(); err != nil {
		return m, err
	}
	records := slices.Clone(m.records)
	i, found := slices.BinarySearchFunc(records, r, order)
	if found {
		old := records[i]
		r.Bytes, r.Seen = max(r.Bytes, old.Bytes), max(r.Seen, old.Seen)
		r.Count = min(r.Count+old.Count, 1<<30)
		records[i] = r
	} else {
		records = slices.Insert(records, i, r)
	}
	if len(records) > mostRecords {
		oldest := slices.MinFunc(records, func(a, b Record) int {
			if a.Seen != b.Seen {
				return compare(a.Seen, b.Seen)
			}
			return order(a, b)
		})
		records = slices.DeleteFunc(records, func(r Record) bool { return r == oldest })
	}
	return Measured{records: records}, nil
}

// Merge adds all of another's records.
func (m Measured) Merge(other Measured) Measured {
	for _, r := range other.records {
		m, _ = m.With(r) // what is in a Measured was checked
	}
	return m
}

// Find is the measurement of a part under a signature.
func (m Measured) Find(p Part, s Signature) (Record, bool) {
	i, ok := slices.BinarySearchFunc(m.records, Record{Part: p, Signature: s}, order)
	if !ok {
		return Record{}, false
	}
	return m.records[i], true
}

// Records are all of them, in a stable order.
func (m Measured) Records() []Record { return slices.Clone(m.records) }

func order(a, b Record) int {
	if c := strings.Compare(string(a.Part), string(b.Part)); c != 0 {
		return c
	}
	return strings.Compare(string(a.Signature), string(b.Signature))
}

// check says what is wrong with a record.
func (r Record) check() error {
	switch {
	case !slices.Contains(partNames, r.Part):
		return fmt.Errorf("a measurement of %q, which is no part of a footprint", r.Part)
	case r.Signature == "" || len(r.Signature) > 128:
		return fmt.Errorf("a measurement of %s without a signature", r.Part)
	case r.Bytes < 0 || r.Bytes > mostBytes:
		return fmt.Errorf("a measurement of %s of %d bytes", r.Part, r.Bytes)
	case r.Count < 1 || r.Count > 1<<30 || r.Seen < 0 || len(r.Model) > 1024:
		return fmt.Errorf("a measurement of %s that is not one", r.Part)
	}
	return nil
}

// measuredFormat names what a file of measurements is.
const measuredFormat = "vllm-gateway footprints 1"

// measuredFile is a file of measurements. The checksum is over the records as
// they are written, so that a file that was torn or edited is noticed.
type measuredFile struct {
	Format  string          `json:"format"`
	Sum     string          `json:"sum"`
	Records json.RawMessage `json:"records"`
}

// Encode writes measurements down. Equal ones give equal bytes.
func (m Measured) Encode() []byte {
	records := m.records
	if records == nil {
		records = []Record{}
	}
	text, err := json.Marshal(records)
	if err == nil {
		sum := sha256.Sum256(text)
		text, err = json.Marshal(measuredFile{Format: measuredFormat, Sum: hex.EncodeToString(sum[:]), Records: text})
	}
	if err != nil {
		panic(err) // plain fields cannot fail
	}
	return append(text, '\n')
}

// ErrForeign is what [DecodeMeasured] says of a file that it did not write.
var ErrForeign = errors.New("not a file of footprints")

// ErrTorn is what it says of one that is not whole, or was changed.
var ErrTorn = errors.New("a file of footprints that is not whole")

// maxMeasured bounds a file of measurements, in bytes.
const maxMeasured = 64 << 20

// DecodeMeasured reads what Encode wrote. Of a file that is not whole nothing
// is believed: the error wraps [ErrForeign] or [ErrTorn], and what was
// measured is measured again.
func DecodeMeasured(text []byte) (Measured, error) {
	if len(text) > maxMeasured {
		return Measured{}, fmt.Errorf("%w: %d bytes", ErrForeign, len(text))
	}
	var file measuredFile
	if err := json.Unmarshal(text, &file); err != nil {
		return Measured{}, fmt.Errorf("%w: %w", ErrTorn, err)
	}
	if file.Format != measuredFormat {
		return Measured{}, fmt.Errorf("%w: its format is %.40q", ErrForeign, file.Format)
	}
	if sum := sha256.Sum256(file.Records); hex.EncodeToString(sum[:]) != file.Sum || text[len(text)-1] != '\n' {
		return Measured{}, fmt.Errorf("%w: its checksum is another", ErrTorn)
	}
	var records []Record
	if err := json.Unmarshal(file.Records, &records); err != nil || len(records) > mostRecords {
		return Measured{}, fmt.Errorf("%w: its records are not understood", ErrTorn)
	}
	for i, r := range records {
		if err := r.check(); err != nil {
			return Measured{}, fmt.Errorf("%w: %w", ErrTorn, err)
		}
		if i > 0 && order(records[i-1], r) >= 0 {
			return Measured{}, fmt.Errorf("%w: its records are out of order", ErrTorn)
		}
	}
	return Measured{records: records}, nil
}
