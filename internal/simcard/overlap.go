// Overlaps: two processes that change or measure one card's memory at a time.
// Real servers mis-size themselves or fail then, so a gateway must never let it
// happen; stand-ins write down when it does.

package simcard

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Overlap says that one process began to change a card's memory while another
// was at it.
type Overlap struct {
	Time       time.Time `json:"time"`
	Card       string    `json:"card"` // UUID
	Who        string    `json:"who"`  // the label of the process that saw it
	PID        int       `json:"pid"`  // as that process numbers itself
	Phase      Phase     `json:"phase"`
	Other      string    `json:"other"`
	OtherPID   int       `json:"other_pid"` // as the first process sees it
	OtherPhase Phase     `json:"other_phase"`
}

// String is the overlap in words.
func (o Overlap) String() string {
	return fmt.Sprintf("%s (process %d) is %s on %s while %s (process %d) is %s",
		o.Who, o.PID, o.Phase, o.Card, o.Other, o.OtherPID, o.OtherPhase)
}

// overlaps records the overlaps of the entry's state that are new. The caller
// holds e.setting, and neither e.mu nor mine: the entries of one process look at
// one another.
//
// A phase is written before the others' are read, so of two processes that begin
// at the same moment at least one sees the other.
func (e *Entry) overlaps(now record) ([]Overlap, error) {
	if !now.Phase.Changing() {
		clear(e.reported)
		return nil, nil
	}
	dir := filepath.Dir(e.path)
	uses, _, err := readEntries(dir)
	if err != nil {
		return nil, err
	}
	var found []Overlap
	for _, other := range uses {
		if other.Entry == filepath.Base(e.path) || !other.Phase.Changing() || e.reported[other.Entry] {
			continue
		}
		if e.reported == nil {
			e.reported = make(map[string]bool)
		}
		e.reported[other.Entry] = true
		found = append(found, Overlap{
			Time: time.Now(), Card: filepath.Base(dir),
			Who: now.Label, PID: os.Getpid(), Phase: now.Phase,
			Other: other.Label, OtherPID: other.PID, OtherPhase: other.Phase,
		})
	}
	return found, appendOverlaps(dir, found)
}

// appendOverlaps adds one line for each overlap, each in a single write, so that
// the lines of several processes never mix.
func appendOverlaps(dir string, overlaps []Overlap) error {
	if len(overlaps) == 0 {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, overlapsFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, o := range overlaps {
		line, err := json.Marshal(o)
		if err != nil {
			return err
		}
		if _, err := f.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// Overlaps returns what the cards' logs hold, card by card, each in the order it
// was recorded.
func Overlaps(folder string) ([]Overlap, error) {
	uuids, err := UUIDs(folder)
	if err != nil {
		return nil, err
	}
	var all []Overlap
	for _, uuid := range uuids {
		f, err := os.Open(filepath.Join(folder, uuid, overlapsFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			var o Overlap
			if err = json.Unmarshal(lines.Bytes(), &o); err != nil {
				break
			}
			all = append(all, o)
		}
		if err = errors.Join(err, lines.Err(), f.Close()); err != nil {
			return nil, fmt.Errorf("card %s: %s: %w", uuid, overlapsFile, err)
		}
	}
	return all, nil
}
