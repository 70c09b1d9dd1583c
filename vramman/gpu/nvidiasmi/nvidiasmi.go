// Package nvidiasmi is the inventory of NVIDIA's cards as the command nvidia-smi
// tells it, which comes with the driver. It serves where NVML cannot be called; it
// is slower, and cards in slices (MIG) are left out, since the command gives no
// figures for slices.
package nvidiasmi

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu/driver"
)

// Spec describes the command.
type Spec struct {
	// Command is the program, by its path or its name on the PATH. Empty means
	// nvidia-smi.
	Command string
}

// standardCommand is the program's name.
const standardCommand = "nvidia-smi"

// Key implements gpu.Spec.
func (s *Spec) Key() string { return "nvidia-smi:" + s.Command }

// Open implements gpu.Spec. It runs nothing: whether there is a command and a
// driver shows at each reading.
func (s *Spec) Open(_ context.Context, log *zap.Logger) (gpu.Inventory, error) {
	command := s.Command
	if command == "" {
		command = standardCommand
	}
	return &inventory{command: command, calls: driver.NewCalls(), log: log, told: make(map[string]bool)}, nil
}

type inventory struct {
	command string
	calls   *driver.Calls
	log     *zap.Logger
	told    map[string]bool // the warnings that were given; belongs to whoever has the turn in calls
}

// Read implements gpu.Inventory. Cards stand in the driver's order.
func (i *inventory) Read(ctx context.Context) ([]gpu.Card, error) {
	type reading struct {
		cards []gpu.Card
		err   error
	}
	made := make(chan reading, 1) // the command may outlast this function
	err := i.calls.Do(ctx, func() {
		cards, err := i.read(ctx)
		made <- reading{cards, err}
	})
	if err != nil {
		return nil, fmt.Errorf("gpus nvidia_smi: %w", err)
	}
	r := <-made
	if r.err != nil {
		return nil, fmt.Errorf("gpus nvidia_smi: %w", r.err)
	}
	return r.cards, nil
}

// read asks for the processes first and the cards after, so that what a young
// process uses is at worst taken for a stranger's, never for free.
func (i *inventory) read(ctx context.Context) ([]gpu.Card, error) {
	apps, err := i.apps(ctx)
	if err != nil {
		return nil, err
	}
	out, failure := run(ctx, i.command, "--query-gpu="+cardFields, "--format=csv,noheader,nounits")
	if failure != nil && out == "" {
		return nil, failure
	}
	rows, err := parseCards(out)
	switch {
	case err != nil && failure != nil:
		return nil, failure
	case err != nil:
		return nil, err
	case failure != nil:
		// It says that something is wrong with a card, and tells of the others.
		i.warn("nvidia-smi reports a failure", "", zap.Error(failure))
	}
	var cards []gpu.Card
	for _, r := range rows {
		c := r.card
		switch {
		case r.sliced:
			i.warn("a card in slices (MIG) is left out, since nvidia-smi gives no figures for slices: use 'gpus nvml'", c.UUID)
			continue
		case r.lost:
			i.warn("a card that the driver has lost is left out: look at 'nvidia-smi'", c.UUID)
			continue
		}
		if !c.Unmeasured {
			c.Processes, c.Unattributed = apps.of(c.UUID)
		}
		if c.Unattributed {
			i.warn("nvidia-smi does not tell which process uses how much of this card; what is not the gateway's is estimated", c.UUID)
		}
		cards = append(cards, c)
	}
	if len(cards) == 0 {
		return nil, errors.New("none of the machine's cards can be used; the gateway's log says why for each")
	}
	return cards, nil
}

// apps asks for the processes. Where they cannot be told, the cards still can.
func (i *inventory) apps(ctx context.Context) (*apps, error) {
	out, err := run(ctx, i.command, "--query-compute-apps="+appFields, "--format=csv,noheader,nounits")
	switch {
	case ctx.Err() != nil || errors.Is(err, errNoCommand):
		return nil, err
	case err != nil:
		i.warn("nvidia-smi does not tell the processes on the cards", "", zap.Error(err))
		return nil, nil
	}
	return parseApps(out)
}

// warn logs a warning once, about a card or about the command.
func (i *inventory) warn(message, uuid string, fields ...zap.Field) {
	if i.told[message+uuid] {
		return
	}
	i.told[message+uuid] = true
	if uuid != "" {
		fields = append(fields, zap.String("gpu", uuid))
	}
	i.log.Warn(message, fields...)
}

// Environ implements gpu.Inventory.
func (i *inventory) Environ() []string { return nil }

// Close implements gpu.Inventory.
func (i *inventory) Close() error { return nil }

// Interface guards
var (
	_ gpu.Spec      = (*Spec)(nil)
	_ gpu.Inventory = (*inventory)(nil)
)
