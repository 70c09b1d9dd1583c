// Package simcard keeps simulated GPUs: a folder that stands for a machine's
// cards, shared by the stand-in servers that use them, the inventory that reads
// them, and tests that act as foreign programs.
//
// The layout:
//
//	FOLDER/<uuid>/card.json      {"name": …, "total": bytes}, replaced atomically
//	FOLDER/<uuid>/<name>.entry   one per process that uses the card
//	FOLDER/<uuid>/overlaps.log   one JSON line for each overlap that was seen
//
// A process holds its entry under a POSIX record lock for as long as it lives.
// Readers count locked entries only, so that whatever ends a process frees its
// memory at once, as a driver does. The lock also tells who holds it: the kernel
// translates the process number into the reader's namespace, so that a reader on
// the host sees the host's number of a process in a container.
//
// POSIX record locks belong to a process, with two consequences that this
// package takes care of: closing any descriptor of a file drops the lock that
// the process holds on it, and a process does not see its own locks. A reader
// therefore never opens an entry of its own process; it knows those by heart.
package simcard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// FolderEnv is the environment variable that tells a stand-in server which folder
// stands for its cards.
const FolderEnv = "VLLM_SIM_CARDS"

const (
	cardFile     = "card.json"
	overlapsFile = "overlaps.log"
	entrySuffix  = ".entry"
)

// Card is one simulated GPU and who uses it, as read at one moment.
type Card struct {
	UUID  string
	Name  string
	Total int64 // bytes
	Uses  []Use // one for each live entry, ordered by process number

	// Stale counts the entries whose process has ended without removing them.
	// They use nothing; see [Sweep].
	Stale int
}

// Used is what all live entries hold together, in bytes.
func (c Card) Used() int64 {
	var sum int64
	for _, u := range c.Uses {
		sum += u.Used
	}
	return sum
}

// Free is what is left of the card, in bytes, never below zero.
func (c Card) Free() int64 { return max(0, c.Total-c.Used()) }

// description is the content of card.json.
type description struct {
	Name  string `json:"name"`
	Total int64  `json:"total"`
}

// Ensure puts a card into the folder, creating the folder where it is missing
// (readable by its owner only), or changes the card's name and size. total is in
// bytes.
func Ensure(folder, uuid, name string, total int64) error {
	if err := checkUUID(uuid); err != nil {
		return err
	}
	if total <= 0 {
		return fmt.Errorf("card %s: the size must be above zero, not %d bytes", uuid, total)
	}
	dir := filepath.Join(folder, uuid)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("card %s: %w", uuid, err)
	}
	content, err := json.Marshal(description{Name: name, Total: total})
	if err != nil {
		return fmt.Errorf("card %s: %w", uuid, err)
	}
	if err := replaceFile(filepath.Join(dir, cardFile), append(content, '\n')); err != nil {
		return fmt.Errorf("card %s: %w", uuid, err)
	}
	return nil
}

// replaceFile writes a file so that readers see the old content or the new,
// never a part.
func replaceFile(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// UUIDs names the folder's cards in lexical order.
func UUIDs(folder string) ([]string, error) {
	dirs, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("simulated cards: %w", err)
	}
	var uuids []string
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		if _, err := os.Stat(filepath.Join(folder, d.Name(), cardFile)); err == nil {
			uuids = append(uuids, d.Name())
		}
	}
	return uuids, nil
}

// Read measures one card now.
func Read(folder, uuid string) (Card, error) {
	if err := checkUUID(uuid); err != nil {
		return Card{}, err
	}
	dir := filepath.Join(folder, uuid)
	content, err := os.ReadFile(filepath.Join(dir, cardFile))
	if err != nil {
		return Card{}, fmt.Errorf("card %s: %w", uuid, err)
	}
	var d description
	if err := json.Unmarshal(content, &d); err != nil {
		return Card{}, fmt.Errorf("card %s: %s: %w", uuid, cardFile, err)
	}
	if d.Total <= 0 {
		return Card{}, fmt.Errorf("card %s: %s gives no size", uuid, cardFile)
	}
	uses, stale, err := readEntries(dir)
	if err != nil {
		return Card{}, fmt.Errorf("card %s: %w", uuid, err)
	}
	return Card{UUID: uuid, Name: d.Name, Total: d.Total, Uses: uses, Stale: stale}, nil
}

// readEntries measures the entries of one card's folder.
func readEntries(dir string) (uses []Use, stale int, err error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, 0, err
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), entrySuffix) {
			continue
		}
		use, live, err := readEntry(filepath.Join(dir, f.Name()))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// Its process has just ended.
		case err != nil:
			return nil, 0, err
		case live:
			uses = append(uses, use)
		default:
			stale++
		}
	}
	slices.SortFunc(uses, func(a, b Use) int {
		if a.PID != b.PID {
			return a.PID - b.PID
		}
		return strings.Compare(a.Entry, b.Entry)
	})
	return uses, stale, nil
}

// Sweep removes what ended processes left on a card and returns how many
// entries it removed. An entry whose process lives is never touched.
func Sweep(folder, uuid string) (removed int, err error) {
	if err := checkUUID(uuid); err != nil {
		return 0, err
	}
	dir := filepath.Join(folder, uuid)
	files, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("card %s: %w", uuid, err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), entrySuffix) {
			continue
		}
		ok, err := removeStale(filepath.Join(dir, f.Name()))
		if err != nil {
			return removed, fmt.Errorf("card %s: %w", uuid, err)
		}
		if ok {
			removed++
		}
	}
	return removed, nil
}

// checkUUID keeps a card's name from leading out of the folder.
func checkUUID(uuid string) error {
	if uuid == "" || uuid == "." || uuid == ".." || strings.ContainsAny(uuid, `/\`+"\x00") {
		return fmt.Errorf("card %q: not a card's UUID", uuid)
	}
	return nil
}
