// Entries: one process's hold on a card, and reading those of others.

package simcard

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Use is one live entry as read at one moment.
type Use struct {
	Entry   string // the entry's file name
	PID     int    // in the reader's process namespace; 0 if hidden from it
	Used    int64  // bytes
	Phase   Phase
	Since   time.Time // when the phase began
	Label   string    // what the process calls itself
	Foreign bool      // held by a program that stands for none of the gateway's servers
}

// Entry is this process's hold on one card. Its methods may be called by several
// goroutines at once. It ends with [Entry.Close] or with the process.
type Entry struct {
	path string
	info fs.FileInfo

	setting  sync.Mutex      // one change, with its look at the others, at a time
	reported map[string]bool // overlaps already reported; under setting

	mu   sync.Mutex // taken last of all locks
	file *os.File   // nil once closed
	now  record
}

// mine lists the entries that this process holds. It is locked for writing while
// an entry's lock comes or goes, and for reading while other files are open:
// nothing may open, and then close, an entry between its lock and its listing.
var mine struct {
	sync.RWMutex
	entries []*Entry
}

// Enter makes an entry for this process on a card, using nothing yet. label is
// what overlaps and listings call it. The overlaps that the phase makes with
// other processes are recorded and returned, as by [Entry.Set].
func Enter(folder, uuid, label string, phase Phase) (*Entry, []Overlap, error) {
	return enter(folder, uuid, record{Label: label, Phase: phase})
}

// Hold takes memory on a card as a foreign program would, in bytes, until the
// entry is closed or the process ends. Tests and demonstrations use it.
func Hold(folder, uuid, label string, bytes int64) (*Entry, error) {
	e, _, err := enter(folder, uuid, record{Label: label, Phase: Holding, Used: bytes, Foreign: true})
	return e, err
}

// enterAttempts bounds how often an entry is made anew because a sweep took the
// file between its creation and its locking, which is rare once.
const enterAttempts = 100

func enter(folder, uuid string, first record) (*Entry, []Overlap, error) {
	if err := checkUUID(uuid); err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(folder, uuid)
	if _, err := os.Stat(filepath.Join(dir, cardFile)); err != nil {
		return nil, nil, fmt.Errorf("card %s: %w", uuid, err)
	}
	if first.Used < 0 {
		return nil, nil, fmt.Errorf("card %s: cannot use %d bytes", uuid, first.Used)
	}
	first.Label = cleanLabel(first.Label)
	first.Since = time.Now()
	for range enterAttempts {
		e, err := create(dir, first)
		if errors.Is(err, errSwept) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("card %s: %w", uuid, err)
		}
		e.setting.Lock()
		overlaps, err := e.overlaps(first)
		e.setting.Unlock()
		if err != nil {
			return nil, nil, errors.Join(err, e.Close())
		}
		return e, overlaps, nil
	}
	return nil, nil, fmt.Errorf("card %s: entries are removed as fast as they are made", uuid)
}

var errSwept = errors.New("the new entry was swept away")

// create writes a file and only then locks it: whoever sees it locked finds a
// valid record in it.
func create(dir string, first record) (*Entry, error) {
	mine.Lock()
	defer mine.Unlock()
	name := strconv.Itoa(os.Getpid()) + "-" + rand.Text()[:8] + entrySuffix
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*Entry, error) {
		// The name is this process's own, so nobody else's file is removed.
		return nil, errors.Join(err, f.Close(), ignoreMissing(os.Remove(path)))
	}
	e := &Entry{path: path, file: f, now: first}
	if err := e.write(first); err != nil {
		return fail(err)
	}
	locked, err := lockWhole(f)
	if err != nil {
		return fail(fmt.Errorf("locking an entry: %w", err))
	}
	if e.info, err = f.Stat(); err != nil {
		return fail(err)
	}
	atPath, err := os.Stat(path)
	if !locked || err != nil || !os.SameFile(e.info, atPath) {
		return fail(errSwept)
	}
	mine.entries = append(mine.entries, e)
	return e, nil
}

// Set says what the process now uses of the card, in bytes, and what it does.
// When that takes, frees or measures memory while another process on the card
// does too, the overlap is recorded in the card's log and returned, once for each
// other process until this one is at rest again.
func (e *Entry) Set(used int64, phase Phase) ([]Overlap, error) {
	e.setting.Lock()
	defer e.setting.Unlock()
	next, err := e.change(used, phase)
	if err != nil {
		return nil, fmt.Errorf("entry %s: %w", filepath.Base(e.path), err)
	}
	return e.overlaps(next)
}

// change writes the entry's next record and returns it.
func (e *Entry) change(used int64, phase Phase) (record, error) {
	if used < 0 {
		return record{}, fmt.Errorf("cannot use %d bytes", used)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.file == nil {
		return record{}, fs.ErrClosed
	}
	next := e.now
	next.Seq++
	next.Used = used
	if next.Phase != phase {
		next.Phase, next.Since = phase, time.Now()
	}
	if err := e.write(next); err != nil {
		return record{}, err
	}
	e.now = next
	return next, nil
}

// Used is what the process last said it uses, in bytes.
func (e *Entry) Used() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now.Used
}

// Phase is what the process last said it does.
func (e *Entry) Phase() Phase {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now.Phase
}

// Close frees the memory and removes the entry. Closing twice is no error.
func (e *Entry) Close() error {
	mine.Lock()
	defer mine.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.file == nil {
		return nil
	}
	mine.entries = slices.DeleteFunc(mine.entries, func(o *Entry) bool { return o == e })
	// Removed while the lock stands, so that no reader finds it stale.
	err := errors.Join(ignoreMissing(os.Remove(e.path)), e.file.Close())
	e.file = nil
	return err
}

func (e *Entry) write(r record) error {
	line, offset, err := r.slot()
	if err != nil {
		return err
	}
	_, err = e.file.WriteAt(line, offset)
	return err
}

func (e *Entry) use() Use {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now.use(filepath.Base(e.path), os.Getpid())
}

func (r record) use(entry string, pid int) Use {
	return Use{Entry: entry, PID: pid, Used: r.Used, Phase: r.Phase, Since: r.Since, Label: r.Label, Foreign: r.Foreign}
}

// readAttempts bounds how often an entry is read again when neither of its slots
// was whole, which takes two writes during one read.
const readAttempts = 10

// readEntry reads one entry; live tells whether a process holds it.
func readEntry(path string) (use Use, live bool, err error) {
	mine.RLock()
	defer mine.RUnlock()
	own, err := ownEntry(path)
	if err != nil {
		return Use{}, false, err
	}
	if own != nil {
		return own.use(), true, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return Use{}, false, err
	}
	defer f.Close()
	var content [entrySize]byte
	for range readAttempts {
		var pid int
		pid, live, err = lockHolder(f)
		if err != nil || !live {
			return Use{}, false, err
		}
		n, err := f.ReadAt(content[:], 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return Use{}, false, err
		}
		if r, err := parseEntry(content[:n]); err == nil {
			return r.use(filepath.Base(path), pid), true, nil
		}
	}
	return Use{}, false, fmt.Errorf("entry %s: %w", filepath.Base(path), errNoRecord)
}

// ownEntry returns the entry of this process that the path leads to, if it does,
// without opening it. The caller holds mine.
func ownEntry(path string) (*Entry, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	for _, e := range mine.entries {
		if os.SameFile(e.info, info) {
			return e, nil
		}
	}
	return nil, nil
}

// removeStale removes an entry that no process holds and tells whether it did.
// Its own lock lies beyond what readers look at, so that they never count the
// sweeper as a user, and yet keeps a new entry's process from locking the file.
func removeStale(path string) (bool, error) {
	mine.Lock() // a sweep's lock must not fall together with this process's others
	defer mine.Unlock()
	own, err := ownEntry(path)
	if err != nil || own != nil {
		return false, ignoreMissing(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false, ignoreMissing(err)
	}
	defer f.Close()
	locked, err := lockForRemoval(f)
	if err != nil || !locked {
		return false, err
	}
	if err := os.Remove(path); err != nil {
		return false, ignoreMissing(err)
	}
	return true, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
