package simcard

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const gib = 1 << 30

func oneCard(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := Ensure(folder, "GPU-a", "simulated", 24*gib); err != nil {
		t.Fatal(err)
	}
	return folder
}

func read(t *testing.T, folder, uuid string) Card {
	t.Helper()
	c, err := Read(folder, uuid)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEnsure(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "deep", "cards")
	for _, uuid := range []string{"GPU-b", "GPU-a"} {
		if err := Ensure(folder, uuid, "small", gib); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(folder)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o700 {
		t.Errorf("folder mode %o, want 700", mode)
	}
	if err := Ensure(folder, "GPU-a", "large", 2*gib); err != nil {
		t.Fatal(err)
	}
	if c := read(t, folder, "GPU-a"); c.Name != "large" || c.Total != 2*gib || c.Free() != 2*gib {
		t.Errorf("card %+v after a second Ensure", c)
	}
	uuids, err := UUIDs(folder)
	if err != nil || fmt.Sprint(uuids) != "[GPU-a GPU-b]" {
		t.Errorf("UUIDs %v, %v", uuids, err)
	}
	left, _ := filepath.Glob(filepath.Join(folder, "*", "*.tmp"))
	if len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestBadCards(t *testing.T) {
	folder := t.TempDir()
	for _, uuid := range []string{"", ".", "..", "a/b", `a\b`, "a\x00b"} {
		if err := Ensure(folder, uuid, "x", gib); err == nil {
			t.Errorf("Ensure took the UUID %q", uuid)
		}
		if _, err := Read(folder, uuid); err == nil {
			t.Errorf("Read took the UUID %q", uuid)
		}
		if _, _, err := Enter(folder, uuid, "x", Starting); err == nil {
			t.Errorf("Enter took the UUID %q", uuid)
		}
	}
	if err := Ensure(folder, "GPU-a", "x", 0); err == nil {
		t.Error("Ensure took a size of 0")
	}
	if _, _, err := Enter(folder, "GPU-none", "x", Starting); err == nil {
		t.Error("Enter took a card that does not exist")
	}
	if _, err := Hold(oneCard(t), "GPU-a", "x", -1); err == nil {
		t.Error("Hold took a negative size")
	}
}

func TestOwnEntry(t *testing.T) {
	folder := oneCard(t)
	e, _, err := Enter(folder, "GPU-a", `llama "8b"`, Starting)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Set(3*gib, Serving); err != nil {
		t.Fatal(err)
	}
	c := read(t, folder, "GPU-a")
	if len(c.Uses) != 1 || c.Uses[0].PID != os.Getpid() || c.Used() != 3*gib || c.Free() != 21*gib {
		t.Fatalf("card %+v", c)
	}
	if got := c.Uses[0]; got.Label != "llama ?8b?" || got.Phase != Serving || got.Foreign {
		t.Errorf("use %+v", got)
	}
	// Having been read by its own process, the entry is still held: another
	// process sees it.
	startChild(t).must(fmt.Sprintf("used %d", 3*gib), "used %s GPU-a", folder)

	if n, err := Sweep(folder, "GPU-a"); n != 0 || err != nil {
		t.Errorf("Sweep removed %d, %v", n, err)
	}
	startChild(t).must(fmt.Sprintf("used %d", 3*gib), "used %s GPU-a", folder)

	for range 2 {
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if c := read(t, folder, "GPU-a"); len(c.Uses) != 0 || c.Stale != 0 {
		t.Errorf("after Close: %+v", c)
	}
	if _, err := e.Set(1, Serving); err == nil {
		t.Error("Set on a closed entry gave no error")
	}
}

func TestKilledProcessFreesItsMemory(t *testing.T) {
	folder := oneCard(t)
	a, b := startChild(t), startChild(t)
	a.must("overlaps 0", "enter %s GPU-a llama starting", folder)
	a.must("overlaps 0", "set %d serving", 10*gib)
	b.must("overlaps 0", "hold %s GPU-a desktop %d", folder, gib)

	c := read(t, folder, "GPU-a")
	if len(c.Uses) != 2 || c.Used() != 11*gib {
		t.Fatalf("card %+v", c)
	}
	for _, u := range c.Uses {
		switch u.PID {
		case a.cmd.Process.Pid:
			if u.Foreign || u.Used != 10*gib || u.Phase != Serving {
				t.Errorf("server's use %+v", u)
			}
		case b.cmd.Process.Pid:
			if !u.Foreign || u.Used != gib || u.Phase != Holding {
				t.Errorf("foreign use %+v", u)
			}
		default:
			t.Errorf("use of an unknown process: %+v", u)
		}
	}

	a.kill()
	if c := read(t, folder, "GPU-a"); c.Used() != gib || c.Stale != 1 {
		t.Errorf("after the kill: %+v", c)
	}
	if n, err := Sweep(folder, "GPU-a"); n != 1 || err != nil {
		t.Errorf("Sweep removed %d, %v, want 1", n, err)
	}
	if c := read(t, folder, "GPU-a"); c.Used() != gib || c.Stale != 0 {
		t.Errorf("after the sweep: %+v", c)
	}
}

func TestOverlap(t *testing.T) {
	folder := oneCard(t)
	a, b := startChild(t), startChild(t)
	a.must("overlaps 0", "enter %s GPU-a llama starting", folder)
	b.must("overlaps 1", "enter %s GPU-a qwen starting", folder)
	b.must("overlaps 0", "set %d profiling", gib) // the same overlap still
	a.must("overlaps 1", "set %d profiling", gib) // seen from the other side
	a.must("overlaps 0", "set %d serving", gib)
	b.must("overlaps 0", "set %d serving", gib)
	a.must("overlaps 0", "set %d stopping", gib)
	b.must("overlaps 1", "set %d sleeping", gib) // a new one

	overlaps, err := Overlaps(folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(overlaps) != 3 {
		t.Fatalf("%d overlaps, want 3: %v", len(overlaps), overlaps)
	}
	o := overlaps[2]
	if o.Card != "GPU-a" || o.Who != "qwen" || o.PID != b.cmd.Process.Pid || o.Phase != Sleeping ||
		o.Other != "llama" || o.OtherPID != a.cmd.Process.Pid || o.OtherPhase != Stopping || o.Time.IsZero() {
		t.Errorf("overlap %+v", o)
	}
	if s := o.String(); !strings.Contains(s, "qwen") || !strings.Contains(s, "is sleeping on GPU-a while llama") {
		t.Errorf("in words: %s", s)
	}
}

func TestNoOverlap(t *testing.T) {
	folder := oneCard(t)
	if err := Ensure(folder, "GPU-b", "x", gib); err != nil {
		t.Fatal(err)
	}
	a, b, c, d := startChild(t), startChild(t), startChild(t), startChild(t)
	a.must("overlaps 0", "enter %s GPU-a llama starting", folder)
	b.must("overlaps 0", "enter %s GPU-b qwen starting", folder) // another card
	c.must("overlaps 0", "hold %s GPU-a desktop 5", folder)      // at rest
	a.must("overlaps 0", "set 1 serving")
	d.must("overlaps 0", "enter %s GPU-a phi starting", folder) // a serves
	d.kill()
	a.must("overlaps 0", "set 1 stopping") // d is dead
	if overlaps, err := Overlaps(folder); err != nil || len(overlaps) != 0 {
		t.Errorf("overlaps %v, %v", overlaps, err)
	}
}

// TestConcurrentUse runs writers, readers and sweepers against one another: no
// reader sees a torn value, none loses a live entry, and nothing deadlocks.
func TestConcurrentUse(t *testing.T) {
	folder := oneCard(t)
	other := startChild(t)
	other.must("overlaps 0", "hold %s GPU-a steady 1000", folder)

	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for w := range 3 {
		e, err := Hold(folder, "GPU-a", fmt.Sprint("own", w), 0)
		if err != nil {
			t.Fatal(err)
		}
		writers.Go(func() {
			for i := range 200 {
				phase := []Phase{Starting, Serving}[i%2]
				if _, err := e.Set(int64(i%2)*111_111_111, phase); err != nil {
					t.Error(err)
				}
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Go(func() {
		for range 100 {
			e, _, err := Enter(folder, "GPU-a", "passing", Serving)
			if err != nil {
				t.Error(err)
				return
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := Read(folder, "GPU-a")
				if err != nil {
					t.Error(err)
					return
				}
				if rest := c.Used() - 1000; rest < 0 || rest%111_111_111 != 0 {
					t.Errorf("torn: %d bytes used, of which 1000 steady", c.Used())
					return
				}
				if _, err := Sweep(folder, "GPU-a"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	// Another process's reads meet this one's writes.
	for range 100 {
		if got := other.do("used %s GPU-a", folder); !strings.HasPrefix(got, "used ") {
			t.Errorf("the other process read: %s", got)
		}
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	if c := read(t, folder, "GPU-a"); c.Used() != 1000 {
		t.Errorf("%d bytes used at the end, want 1000", c.Used())
	}
}
