// Package simulated is the inventory of cards that exist only as a folder, for
// demonstrations and tests on machines without a GPU. The stand-in servers that
// use the cards, and whatever else holds memory on them, keep their entries
// there; see package simcard.
package simulated

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/internal/simcard"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
)

// Spec describes simulated cards.
type Spec struct {
	Folder string // where the cards stand; see DefaultFolder
	Cards  []Card // at least one, in the order of their readings
	// Unattributed has the cards tell how full they are but not by whom, as some
	// real ones do: what a server takes then shows only as a difference.
	Unattributed bool
}

// Card is one simulated card.
type Card struct {
	UUID  string // as real ones are named, "GPU-…"; any file name will do
	Name  string // empty means "simulated"
	Total int64  // bytes
}

// DefaultFolder is where the cards of a gateway of that name stand if its config
// names no folder: below the system's folder for temporary files, one for each
// user, so that two users' gateways of one name do not share cards.
func DefaultFolder(gateway string) string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("vllm-gateway-%d", os.Getuid()), "cards-"+url.PathEscape(gateway))
}

// Key implements gpu.Spec.
func (s *Spec) Key() string {
	cards, err := json.Marshal(s)
	if err != nil { // strings and numbers always encode
		return fmt.Sprintf("simulated:%+v", *s)
	}
	return "simulated:" + string(cards)
}

// Open implements gpu.Spec: it creates the folder and the cards in it, and
// leaves alone what uses them already.
func (s *Spec) Open(_ context.Context, log *zap.Logger) (gpu.Inventory, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	// Servers run with other working directories.
	folder, err := filepath.Abs(s.Folder)
	if err != nil {
		return nil, fmt.Errorf("simulated cards: %w", err)
	}
	inv := &inventory{folder: folder, unattributed: s.Unattributed, log: log}
	for _, c := range s.Cards {
		name := c.Name
		if name == "" {
			name = "simulated"
		}
		if err := simcard.Ensure(folder, c.UUID, name, c.Total); err != nil {
			if errors.Is(err, os.ErrPermission) {
				return nil, fmt.Errorf("simulated cards: the folder %s cannot be written: choose another one or remove it: %w", folder, err)
			}
			return nil, fmt.Errorf("simulated cards in folder %s: %w", folder, err)
		}
		inv.uuids = append(inv.uuids, c.UUID)
		inv.sweep(c.UUID)
	}
	log.Info("simulated cards are ready", zap.String("folder", folder), zap.Int("cards", len(inv.uuids)))
	return inv, nil
}

func (s *Spec) check() error {
	if s.Folder == "" {
		return errors.New("simulated cards: no folder is given for them")
	}
	if len(s.Cards) == 0 {
		return errors.New("simulated cards: none is declared: give at least one with its UUID and its size")
	}
	seen := make(map[string]bool)
	for _, c := range s.Cards {
		if seen[c.UUID] {
			return fmt.Errorf("simulated cards: %s is declared twice", c.UUID)
		}
		seen[c.UUID] = true
	}
	return nil
}

// inventory reads the folder anew each time; it keeps nothing open.
type inventory struct {
	folder       string
	uuids        []string
	unattributed bool
	log          *zap.Logger
}

// Read implements gpu.Inventory.
func (i *inventory) Read(ctx context.Context) ([]gpu.Card, error) {
	cards := make([]gpu.Card, 0, len(i.uuids))
	for _, uuid := range i.uuids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c, err := simcard.Read(i.folder, uuid)
		if err != nil {
			return nil, fmt.Errorf("simulated cards: %w", err)
		}
		if c.Stale > 0 {
			i.sweep(uuid)
		}
		card := gpu.Card{UUID: c.UUID, Name: c.Name, Total: c.Total, Used: c.Used(), Unattributed: i.unattributed}
		if !i.unattributed {
			card.Processes = processes(c.Uses)
		}
		cards = append(cards, card)
	}
	return cards, nil
}

// processes adds up each process's entries. The uses come ordered by process.
func processes(uses []simcard.Use) []gpu.Process {
	var list []gpu.Process
	for _, u := range uses {
		switch last := len(list) - 1; {
		case u.Used == 0:
		case last >= 0 && list[last].PID == u.PID:
			list[last].Used += u.Used
		default:
			list = append(list, gpu.Process{PID: u.PID, Used: u.Used})
		}
	}
	return list
}

// sweep removes what killed processes left. It uses nothing, so failing to
// remove it does no harm beyond clutter.
func (i *inventory) sweep(uuid string) {
	if _, err := simcard.Sweep(i.folder, uuid); err != nil {
		i.log.Debug("entries of ended processes remain", zap.String("gpu", uuid), zap.Error(err))
	}
}

// Environ implements gpu.Inventory.
func (i *inventory) Environ() []string { return []string{simcard.FolderEnv + "=" + i.folder} }

// Close implements gpu.Inventory. The cards stay, as real ones do: servers may
// still run on them.
func (i *inventory) Close() error { return nil }

var (
	_ gpu.Spec      = (*Spec)(nil)
	_ gpu.Inventory = (*inventory)(nil)
)
