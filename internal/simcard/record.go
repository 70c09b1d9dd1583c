// An entry's content: what its process uses and does, in a form that is never
// seen half-written.

package simcard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
)

// Phase is what a process is doing with a card's memory.
type Phase string

// The phases of a server, in the order of its life, and that of a program which
// is no server.
const (
	Starting  Phase = "starting"  // from its first allocation until it is ready
	Profiling Phase = "profiling" // measuring the card to size its cache
	Serving   Phase = "serving"
	Sleeping  Phase = "sleeping" // giving memory back, still alive
	Asleep    Phase = "asleep"
	Waking    Phase = "waking" // taking memory again
	Stopping  Phase = "stopping"
	Holding   Phase = "holding" // a foreign program that keeps its memory
)

// Changing tells whether a process in this phase takes, frees or measures the
// card's memory, so that another one doing the same corrupts its figures.
func (p Phase) Changing() bool {
	switch p {
	case Starting, Profiling, Sleeping, Waking, Stopping:
		return true
	}
	return false
}

// record is one state of an entry.
type record struct {
	Seq     uint64    `json:"seq"`
	Used    int64     `json:"used"`
	Phase   Phase     `json:"phase"`
	Since   time.Time `json:"since"`
	Label   string    `json:"label"`
	Foreign bool      `json:"foreign,omitempty"`
}

// An entry has two slots, written in turn. Each is one line, "CRC JSON", padded
// with spaces to a fixed length: while one is being written the other is whole,
// and the checksum tells them apart, whatever a reader catches and wherever a
// killed writer stopped.
const (
	slotSize  = 512
	entrySize = 2 * slotSize
	maxLabel  = 64 // bytes; keeps every record well within its slot
	maxPhase  = 16 // bytes
)

var errNoRecord = errors.New("no valid record")

// slot returns the record's line and where in the entry it goes.
func (r record) slot() (line []byte, offset int64, err error) {
	content, err := json.Marshal(r)
	if err != nil {
		return nil, 0, err
	}
	line = fmt.Appendf(nil, "%08x %s", crc32.ChecksumIEEE(content), content)
	if len(line) >= slotSize {
		return nil, 0, fmt.Errorf("record of %d bytes is too long", len(line))
	}
	line = append(line, bytes.Repeat([]byte{' '}, slotSize-1-len(line))...)
	line = append(line, '\n')
	return line, int64(r.Seq%2) * slotSize, nil
}

// parseEntry returns the newest valid record of an entry's content.
func parseEntry(content []byte) (record, error) {
	var newest record
	found := false
	for offset := 0; offset+slotSize <= len(content) && offset < entrySize; offset += slotSize {
		r, err := parseSlot(content[offset : offset+slotSize])
		if err == nil && (!found || r.Seq > newest.Seq) {
			newest, found = r, true
		}
	}
	if !found {
		return record{}, errNoRecord
	}
	return newest, nil
}

func parseSlot(line []byte) (record, error) {
	line = bytes.TrimRight(line, " \n")
	sum, content, ok := bytes.Cut(line, []byte{' '})
	if !ok || len(sum) != 8 {
		return record{}, errNoRecord
	}
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || crc32.ChecksumIEEE(content) != uint32(want) {
		return record{}, errNoRecord
	}
	var r record
	if err := json.Unmarshal(content, &r); err != nil {
		return record{}, err
	}
	if r.Used < 0 || len(r.Phase) > maxPhase || len(r.Label) > maxLabel {
		return record{}, errNoRecord
	}
	return r, nil
}

// cleanLabel makes any name fit into a record.
func cleanLabel(label string) string {
	clean := strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			strings.ContainsRune(" ._-/:@+", c):
			return c
		}
		return '?'
	}, label)
	return clean[:min(len(clean), maxLabel)]
}
