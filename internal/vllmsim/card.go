// The server's hold on its simulated cards.

package vllmsim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/vllm-gateway/vllm-gateway/internal/simcard"
)

// cards are those that the server runs on, one for each part of a tensor-parallel
// model. There are none if it runs without.
type cards struct {
	folder string
	uuids  []string
	held   []*simcard.Entry
	log    *logger
}

// openCards takes the first of the visible cards, as many as the model needs.
func openCards(cfg *Config, log *logger) (*cards, error) {
	c := &cards{folder: cfg.CardFolder, log: log}
	if c.folder == "" {
		return c, nil
	}
	visible, err := visibleCards(c.folder, cfg.Devices)
	if err != nil {
		return nil, err
	}
	if len(visible) == 0 {
		return nil, &startError{"core.py", "RuntimeError: No CUDA GPUs are available"}
	}
	if cfg.TensorParallel > len(visible) {
		return nil, &startError{"core.py", fmt.Sprintf("ValueError: World size (%d) is larger than the number of available GPUs (%d) in this node",
			cfg.TensorParallel, len(visible))}
	}
	for _, uuid := range visible[:cfg.TensorParallel] {
		entry, overlaps, err := simcard.Enter(c.folder, uuid, cfg.ServedNames[0], simcard.Starting)
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		c.uuids = append(c.uuids, uuid)
		c.held = append(c.held, entry)
		c.report(overlaps)
	}
	return c, nil
}

// visibleCards resolves the names of cards: UUIDs, or their places in the folder.
func visibleCards(folder string, devices []string) ([]string, error) {
	all, err := simcard.UUIDs(folder)
	if err != nil || devices == nil {
		return all, err
	}
	var visible []string
	for _, d := range devices {
		if slices.Contains(all, d) {
			visible = append(visible, d)
			continue
		}
		place, err := strconv.Atoi(d)
		if err != nil || place < 0 || place >= len(all) {
			// CUDA hides the rest of the list at the first name it does not know.
			break
		}
		visible = append(visible, all[place])
	}
	return visible, nil
}

// enter begins a phase on all cards; what they use stays.
func (c *cards) enter(phase simcard.Phase) error {
	for _, e := range c.held {
		overlaps, err := e.Set(e.Used(), phase)
		if err != nil {
			return err
		}
		c.report(overlaps)
	}
	return nil
}

// take sets what the server uses of card i, in bytes. The error is an
// [memoryError] if the card does not have it. Of two servers that take the last
// memory at the same moment both may fail.
func (c *cards) take(i int, used int64) error {
	e := c.held[i]
	before := e.Used()
	if err := c.set(e, used); err != nil {
		return err
	}
	card, err := simcard.Read(c.folder, c.uuids[i])
	if err != nil {
		return err
	}
	if card.Used() <= card.Total {
		return nil
	}
	free := max(0, card.Total-card.Used()+used-before)
	return errors.Join(&memoryError{card: i, want: used - before, free: free, total: card.Total}, c.set(e, before))
}

func (c *cards) set(e *simcard.Entry, used int64) error {
	overlaps, err := e.Set(used, e.Phase())
	c.report(overlaps)
	return err
}

// read measures card i: everybody's use of it.
func (c *cards) read(i int) (simcard.Card, error) { return simcard.Read(c.folder, c.uuids[i]) }

// close frees the memory on all cards.
func (c *cards) close() error {
	var errs []error
	for _, e := range c.held {
		errs = append(errs, e.Close())
	}
	return errors.Join(errs...)
}

// report prints overlaps. Nothing of vLLM's looks like these lines: a real server
// does not notice.
func (c *cards) report(overlaps []simcard.Overlap) {
	for _, o := range overlaps {
		c.log.vllm("EngineCore", "WARNING", "simcard", "overlap: %s", o)
	}
}

// memoryError is an allocation that a card could not serve. Sizes are bytes.
type memoryError struct {
	card  int // its place among the server's cards
	want  int64
	free  int64
	total int64
}

func (e *memoryError) Error() string {
	return fmt.Sprintf("CUDA out of memory. Tried to allocate %s. GPU %d has a total capacity of %s of which %s is free.",
		torchText(e.want), e.card, torchText(e.total), torchText(e.free))
}
