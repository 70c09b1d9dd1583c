package nvml

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu/driver"
)

// inventory reads the cards by way of a library. It starts the library for its
// first reading and keeps it started, for that takes longest; a reading that fails
// stops it, so that the next one begins from nothing.
type inventory struct {
	lib   library
	calls *driver.Calls
	log   *zap.Logger

	// These two belong to whoever has the turn in calls.
	session *session // nil: not started
	closed  bool
}

// session is what holds from a start of the library to its stop.
type session struct {
	driver string          // its version
	young  bool            // no reading has succeeded yet
	lost   map[int]bool    // the cards that cannot be read
	mute   map[string]bool // the cards of which it is not told who uses what
}

// closeTimeout bounds the wait for a driver that does not let go.
const closeTimeout = 5 * time.Second

func newInventory(lib library, calls *driver.Calls, log *zap.Logger) *inventory {
	return &inventory{lib: lib, calls: calls, log: log}
}

// Read implements gpu.Inventory. Cards stand in the driver's order, a card's
// slices in the card's place.
//
// A card that cannot be read fails the reading, for what fails once may be the
// driver going down. If it fails right after a new start, too, then it is the card,
// and readings go on without it.
func (i *inventory) Read(ctx context.Context) ([]gpu.Card, error) {
	type reading struct {
		cards []gpu.Card
		err   error
	}
	made := make(chan reading, 1) // the call may outlast this function
	err := i.calls.Do(ctx, func() {
		cards, err := i.read()
		made <- reading{cards, err}
	})
	if err != nil {
		return nil, fmt.Errorf("gpus nvml: %w", err)
	}
	r := <-made
	if r.err != nil {
		return nil, fmt.Errorf("gpus nvml: %w", r.err)
	}
	return r.cards, nil
}

func (i *inventory) read() ([]gpu.Card, error) {
	if i.closed {
		return nil, errors.New("the inventory is closed")
	}
	if err := i.begin(); err != nil {
		return nil, err
	}
	cards, err := i.readCards()
	if err != nil {
		i.end()
		return nil, err
	}
	if s := i.session; s.young {
		s.young = false
		i.log.Info("the cards are read through NVML", zap.String("driver", s.driver), zap.Int("cards", len(cards)))
	}
	return cards, nil
}

// begin starts a session unless one is going on.
func (i *inventory) begin() error {
	if i.session != nil {
		return nil
	}
	if err := i.lib.start(); err != nil {
		return err
	}
	i.session = &session{young: true, lost: make(map[int]bool), mute: make(map[string]bool)}
	version, err := i.lib.driver()
	if err != nil {
		i.end()
		return err
	}
	i.session.driver = version
	return nil
}

// end stops the session. That this fails is no news: the driver may be gone.
func (i *inventory) end() {
	if i.session == nil {
		return
	}
	i.session = nil
	if err := i.lib.stop(); err != nil {
		i.log.Debug("stopping NVML failed", zap.Error(err))
	}
}

func (i *inventory) readCards() ([]gpu.Card, error) {
	n, err := i.lib.count()
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errors.New("NVIDIA's driver is running, but has no card: look at 'nvidia-smi -L'; a container must be given its cards")
	}
	s := i.session
	var all []gpu.Card
	var first error
	for index := range n {
		cards, err := i.readCard(index)
		if err == nil {
			delete(s.lost, index)
			all = append(all, cards...)
			continue
		}
		err = fmt.Errorf("card %d: %w", index, err)
		if first == nil {
			first = err
		}
		if !s.lost[index] {
			if !s.young {
				return nil, err
			}
			i.log.Warn("a card cannot be read and is left out", zap.Error(err))
			s.lost[index] = true
		}
	}
	if len(s.lost) >= n {
		return nil, first
	}
	return all, nil
}

// readCard reads a card, or each of its slices.
func (i *inventory) readCard(index int) ([]gpu.Card, error) {
	d, err := i.lib.card(index)
	if err != nil {
		return nil, err
	}
	slots, err := d.slices()
	if err != nil {
		return nil, err
	}
	if slots == 0 {
		c, err := i.readDevice(d)
		if err != nil {
			return nil, err
		}
		return []gpu.Card{c}, nil
	}
	var cards []gpu.Card
	for slot := range slots {
		slice, err := d.slice(slot)
		if errors.Is(err, errNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c, err := i.readDevice(slice)
		if err != nil {
			return nil, fmt.Errorf("slice %d: %w", slot, err)
		}
		cards = append(cards, c)
	}
	return cards, nil
}

// Environ implements gpu.Inventory.
func (i *inventory) Environ() []string { return nil }

// Close implements gpu.Inventory.
func (i *inventory) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := i.calls.Do(ctx, func() {
		i.closed = true
		i.end()
	})
	if err != nil {
		return fmt.Errorf("gpus nvml: %w", err)
	}
	return nil
}

// Interface guards
var _ gpu.Inventory = (*inventory)(nil)
