package nvml

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu/driver"
)

// fake is a library and what is wrong with it.
type fake struct {
	cards   []*fakeDevice
	fails   map[string]error // by call
	started int              // times, less the stops
	hangs   chan struct{}    // not nil: counting waits for it
}

func (f *fake) start() error {
	if err := f.fails["start"]; err != nil {
		return err
	}
	f.started++
	return nil
}

func (f *fake) stop() error {
	f.started--
	return f.fails["stop"]
}

func (f *fake) driver() (string, error) { return "580", f.fails["driver"] }

func (f *fake) count() (int, error) {
	if f.hangs != nil {
		<-f.hangs
	}
	return len(f.cards), f.fails["count"]
}

func (f *fake) card(index int) (device, error) {
	return f.cards[index], f.cards[index].fails["card"]
}

// fakeDevice is a card or a slice, and what is wrong with it.
type fakeDevice struct {
	id     string
	total  uint64
	used   uint64
	lists  [3][]process
	pieces []*fakeDevice // nil: none in that slot
	fails  map[string]error
}

func (d *fakeDevice) uuid() (string, error) { return d.id, d.fails["uuid"] }
func (d *fakeDevice) name() (string, error) { return "fake", d.fails["name"] }
func (d *fakeDevice) memory() (uint64, uint64, error) {
	return d.total, d.used, d.fails["memory"]
}
func (d *fakeDevice) compute() ([]process, error)  { return d.lists[0], d.fails["compute"] }
func (d *fakeDevice) graphics() ([]process, error) { return d.lists[1], d.fails["graphics"] }
func (d *fakeDevice) mps() ([]process, error)      { return d.lists[2], d.fails["mps"] }
func (d *fakeDevice) slices() (int, error)         { return len(d.pieces), d.fails["slices"] }

func (d *fakeDevice) slice(index int) (device, error) {
	if d.pieces[index] == nil {
		return nil, fmt.Errorf("slice: %w", errNotFound)
	}
	return d.pieces[index], d.pieces[index].fails["slice"]
}

func failing(call string, err error) map[string]error { return map[string]error{call: err} }

// opened is an inventory of a fake, and its log.
func opened(f *fake) (*inventory, *observer.ObservedLogs) {
	core, logs := observer.New(zap.InfoLevel)
	return newInventory(f, driver.NewCalls(), zap.New(core)), logs
}

func uuids(cards []gpu.Card) (ids []string) {
	for _, c := range cards {
		ids = append(ids, c.UUID)
	}
	return ids
}

// TestBrokenCardIsLeftOut shows that one card of several does not take the others
// with it, and comes back when it works again.
func TestBrokenCardIsLeftOut(t *testing.T) {
	lost := &callError{"nvmlDeviceGetHandleByIndex", 15, "GPU is lost"}
	f := &fake{cards: []*fakeDevice{{id: "a", total: 2}, {id: "b", total: 2}, {id: "c", total: 2}}}
	inv, logs := opened(f)
	for n, tt := range []struct {
		broken []int
		want   []string // nil: the reading fails
	}{
		{nil, []string{"a", "b", "c"}},
		{[]int{1}, nil}, // it may be the driver
		{[]int{1}, []string{"a", "c"}},
		{[]int{1}, []string{"a", "c"}},
		{nil, []string{"a", "b", "c"}},
		{[]int{0}, nil},
		{[]int{0, 2}, []string{"b"}},
		{[]int{0, 1, 2}, nil},
		{[]int{0, 1, 2}, nil},
		{nil, []string{"a", "b", "c"}},
	} {
		for i, c := range f.cards {
			c.fails = nil
			if slices.Contains(tt.broken, i) {
				c.fails = failing("card", lost)
			}
		}
		cards, err := inv.Read(t.Context())
		if !slices.Equal(uuids(cards), tt.want) || (err == nil) != (tt.want != nil) {
			t.Errorf("reading %d: %v, %v; want %v", n, uuids(cards), err, tt.want)
		}
		if err != nil && !strings.Contains(err.Error(), "fallen off the bus") {
			t.Errorf("reading %d: %v", n, err)
		}
	}
	if err := inv.Close(); err != nil || f.started != 0 {
		t.Errorf("closed: %v, started %d times too often", err, f.started)
	}
	if n := logs.FilterMessage("a card cannot be read and is left out").Len(); n == 0 || n > 7 {
		t.Errorf("%d warnings of %v", n, logs.All())
	}
}

// TestSessionsEnd shows that what is started is stopped, whatever fails.
func TestSessionsEnd(t *testing.T) {
	broken := errors.New("broken")
	for _, call := range []string{"start", "driver", "count", "stop"} {
		f := &fake{cards: []*fakeDevice{{id: "a"}}, fails: failing(call, broken)}
		inv, _ := opened(f)
		for range 3 {
			if _, err := inv.Read(t.Context()); (call == "stop") != (err == nil) || err != nil && !errors.Is(err, broken) {
				t.Errorf("%s fails: %v", call, err)
			}
		}
		if err := inv.Close(); err != nil || f.started != 0 {
			t.Errorf("%s fails: closed with %v, started %d times too often", call, err, f.started)
		}
		if err := inv.Close(); err != nil || f.started != 0 {
			t.Errorf("%s fails: closed twice: %v, %d", call, err, f.started)
		}
	}
}

// TestFigures shows what becomes of figures that are missing or make no sense.
func TestFigures(t *testing.T) {
	denied := &callError{"list", 4, "no permission"}
	for _, tt := range []struct {
		name string
		d    fakeDevice
		want gpu.Card
		err  string
	}{
		{
			"no memory of its own",
			fakeDevice{fails: failing("memory", errUnsupported)},
			gpu.Card{Unmeasured: true},
			"",
		},
		{
			"no list of processes",
			fakeDevice{total: 8, used: 5, fails: failing("compute", errUnsupported)},
			gpu.Card{Total: 8, Used: 5, Unattributed: true},
			"",
		},
		{
			"no permission for the list",
			fakeDevice{total: 8, used: 5, fails: failing("compute", denied)},
			gpu.Card{Total: 8, Used: 5, Unattributed: true},
			"",
		},
		{
			"no further lists",
			fakeDevice{total: 8, lists: [3][]process{{{1, 2}}, {{3, 4}}}, fails: map[string]error{"graphics": errUnsupported, "mps": denied}},
			gpu.Card{Total: 8, Processes: []gpu.Process{{PID: 1, Used: 2}}},
			"",
		},
		{
			"unknown use",
			fakeDevice{total: 8, used: 5, lists: [3][]process{{{9, unknown}, {1, 2}}}},
			gpu.Card{Total: 8, Used: 5, Processes: []gpu.Process{{PID: 1, Used: 2}, {PID: 9}}, Unattributed: true},
			"",
		},
		{
			"processes in several lists, and several times",
			fakeDevice{total: 8, used: 7, lists: [3][]process{{{1, 2}, {1, 1}, {2, 0}}, {{1, 3}, {3, 1}}, {{1, 2}}}},
			gpu.Card{Total: 8, Used: 7, Processes: []gpu.Process{{PID: 1, Used: 3}, {PID: 3, Used: 1}}},
			"",
		},
		{"more used than there is", fakeDevice{total: 8, used: 9}, gpu.Card{}, "cannot be in use"},
		{"too large", fakeDevice{total: math.MaxUint64}, gpu.Card{}, "cannot be in use"},
		{"too large a process", fakeDevice{total: 8, lists: [3][]process{{{1, math.MaxUint64 - 1}}}}, gpu.Card{}, "process 1 cannot use"},
		{"broken list", fakeDevice{total: 8, fails: failing("mps", errors.New("broken"))}, gpu.Card{}, "card 0: broken"},
		{"broken mode", fakeDevice{total: 8, fails: failing("slices", errors.New("broken"))}, gpu.Card{}, "card 0: broken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.d.id = "a"
			inv, logs := opened(&fake{cards: []*fakeDevice{&tt.d}})
			for range 2 {
				got, err := inv.Read(t.Context())
				if tt.err != "" {
					if err == nil || !strings.Contains(err.Error(), tt.err) {
						t.Errorf("read %+v, %v, want %q", got, err, tt.err)
					}
					continue
				}
				tt.want.UUID, tt.want.Name, tt.want.Driver = "a", "fake", "580"
				if err != nil || !reflect.DeepEqual(got, []gpu.Card{tt.want}) {
					t.Errorf("read %+v, %v\nwant %+v", got, err, tt.want)
				}
			}
			if warned := logs.FilterLevelExact(zap.WarnLevel).FilterMessageSnippet("which process").Len(); (warned == 1) != tt.want.Unattributed {
				t.Errorf("%d warnings", warned)
			}
		})
	}
}

func TestSlots(t *testing.T) {
	sliced := &fakeDevice{id: "a", pieces: []*fakeDevice{nil, {id: "a1", total: 1}, nil, {id: "a3", total: 1}}}
	inv, _ := opened(&fake{cards: []*fakeDevice{sliced, {id: "b", total: 1}, {id: "empty", pieces: []*fakeDevice{nil, nil}}}})
	cards, err := inv.Read(t.Context())
	if err != nil || !slices.Equal(uuids(cards), []string{"a1", "a3", "b"}) {
		t.Errorf("read %v, %v", uuids(cards), err)
	}
	sliced.pieces[1].fails = failing("memory", errors.New("broken"))
	if _, err := inv.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "card 0: slice 1: broken") {
		t.Errorf("a broken slice: %v", err)
	}
}

// TestHangingDriver shows that neither a reading nor closing waits for ever.
func TestHangingDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{cards: []*fakeDevice{{id: "a", total: 1}}, hangs: make(chan struct{})}
		inv, _ := opened(f)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := inv.Read(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "has not answered for 10s") {
			t.Errorf("reading: %v", err)
		}
		if err := inv.Close(); err == nil || !strings.Contains(err.Error(), "has not answered for 15s") {
			t.Errorf("closing: %v", err)
		}
		close(f.hangs)
		if err := inv.Close(); err != nil || f.started != 0 {
			t.Errorf("closing a driver that answers again: %v, started %d times too often", err, f.started)
		}
	})
}

func TestKey(t *testing.T) {
	if a, b := (&Spec{}).Key(), (&Spec{Library: "/x"}).Key(); a == b || a != new(Spec).Key() {
		t.Errorf("keys %q and %q", a, b)
	}
}
