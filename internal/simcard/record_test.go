package simcard

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func slots(t testing.TB, records ...record) []byte {
	t.Helper()
	content := make([]byte, entrySize)
	for _, r := range records {
		line, offset, err := r.slot()
		if err != nil {
			t.Fatal(err)
		}
		copy(content[offset:], line)
	}
	return content
}

func TestRecordNewestWins(t *testing.T) {
	since := time.Date(2026, 11, 23, 1, 2, 3, 4, time.UTC)
	old := record{Seq: 6, Used: 1, Phase: Starting, Since: since, Label: "a"}
	young := record{Seq: 7, Used: 2, Phase: Serving, Since: since, Label: "a"}
	got, err := parseEntry(slots(t, old, young))
	if err != nil || got != young {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestRecordTorn cuts a write short at every byte: the state before it remains.
func TestRecordTorn(t *testing.T) {
	older := record{Seq: 1, Used: 111, Phase: Starting}
	old := record{Seq: 2, Used: 222, Phase: Serving}
	young := record{Seq: 3, Used: 333, Phase: Stopping}
	line, offset, err := young.slot()
	if err != nil {
		t.Fatal(err)
	}
	for n := range line {
		content := slots(t, older, old)
		copy(content[offset:], line[:n])
		got, err := parseEntry(content)
		// Where only padding is missing, the record is whole already.
		if err != nil || got != old && got != young {
			t.Fatalf("after %d bytes: %+v, %v", n, got, err)
		}
	}
}

func TestRecordLongestFits(t *testing.T) {
	r := record{
		Seq: 1<<64 - 1, Used: 1<<63 - 1, Phase: Phase(strings.Repeat("p", maxPhase)), Foreign: true,
		Label: cleanLabel(strings.Repeat("<", 1000)), Since: time.Date(2026, 1, 1, 1, 1, 1, 999999999, time.FixedZone("x", 5*3600+1800)),
	}
	if got, err := parseEntry(slots(t, r)); err != nil || got.Used != r.Used || got.Label != r.Label {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzParseEntry(f *testing.F) {
	good := slots(f, record{Seq: 1, Used: 5, Phase: Serving, Label: "x"}, record{Seq: 2, Used: 6, Phase: Stopping})
	f.Add(good)
	f.Add(good[:slotSize])
	f.Add(good[:slotSize+10])
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{' '}, entrySize))
	f.Add([]byte(strings.Repeat("00000000 {}\n", 100)))
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := parseEntry(content)
		if err != nil {
			return
		}
		if r.Used < 0 || len(r.Label) > maxLabel || len(r.Phase) > maxPhase {
			t.Errorf("accepted %+v", r)
		}
	})
}
