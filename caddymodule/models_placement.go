// This file owns the options of models about where they may run, and what they do
// to others for it.

package caddymodule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// The values of on_conflict.
const (
	onConflictEvict  = "evict"
	onConflictWait   = "wait"
	onConflictReject = "reject"
)

// mostReplicas is how many instances a model may have at once.
const mostReplicas = 4

// conflicts are the values of on_conflict as the manager knows them.
var conflicts = map[string]scheduler.Conflict{
	"":               scheduler.Evict,
	onConflictEvict:  scheduler.Evict,
	onConflictWait:   scheduler.Hold,
	onConflictReject: scheduler.Reject,
}

// PlacementOptions are what a model can be told about the cards that it may run
// on, and about the other models there.
type PlacementOptions struct {
	// The UUIDs of the cards of its pool that it may run on; on others it does not.
	// Default: every card of its pool.
	PinGPUs []string `json:"pin_gpus,omitempty"`

	// The UUIDs of the cards of its pool that it does not run on. Default: none.
	ExcludeGPUs []string `json:"exclude_gpus,omitempty"`

	// Share cards with others that do, and take no more of them than it needs, in a
	// pool with `placement` `whole_card`, where a model has its cards for itself
	// otherwise. Default: false.
	Colocate *bool `json:"colocate,omitempty"`

	// What it does where there is no room: `evict` has idle models make room, and
	// busy ones when its turn comes; `wait` waits, as long as its requests do, until
	// others have gone by themselves; `reject` has its requests refused at once,
	// with status 503, unless room is about to come. Default: `evict`.
	OnConflict string `json:"on_conflict,omitempty"`

	// Start it without a request as soon as there is room for it, but have nobody
	// make room for that; and again when it died. Unlike a model that is `always_on`,
	// it makes room for others, and then waits for a request. Default: false.
	Preload *bool `json:"preload,omitempty"`

	// How many instances of it there may be at once, 1 to 4. Another is started when
	// requests queue and room is free without anybody's making it, and stopped when
	// it is idle. Default: 1.
	Replicas int `json:"replicas,omitempty"`

	// Put it to sleep, where that is possible, when it would be stopped to make
	// room: its weights go into the host's memory, of which they take about twice
	// their size, and it is back much sooner. Only with a server that has it.
	// Default: false.
	Sleep *bool `json:"sleep,omitempty"`
}

// over returns the options with those that are missing taken from base. Cards of
// its own that a model is pinned to are not excluded by the base.
func (o PlacementOptions) over(base PlacementOptions) PlacementOptions {
	if len(o.PinGPUs) > 0 {
		base.PinGPUs, base.ExcludeGPUs = o.PinGPUs, nil
	}
	if len(o.ExcludeGPUs) > 0 {
		base.ExcludeGPUs = o.ExcludeGPUs
	}
	return PlacementOptions{
		PinGPUs:     base.PinGPUs,
		ExcludeGPUs: base.ExcludeGPUs,
		Colocate:    cmp.Or(o.Colocate, base.Colocate),
		OnConflict:  cmp.Or(o.OnConflict, base.OnConflict),
		Preload:     cmp.Or(o.Preload, base.Preload),
		Replicas:    cmp.Or(o.Replicas, base.Replicas),
		Sleep:       cmp.Or(o.Sleep, base.Sleep),
	}
}

// option reads one option, if it is one of these.
func (o *PlacementOptions) option(r *reader, word string) (known bool, err error) {
	switch word {
	case "pin_gpus":
		return true, r.list(&o.PinGPUs)
	case "exclude_gpus":
		return true, r.list(&o.ExcludeGPUs)
	case "colocate":
		return true, r.flag(&o.Colocate)
	case "on_conflict":
		return true, r.text(&o.OnConflict)
	case "preload":
		return true, r.flag(&o.Preload)
	case "replicas":
		return true, r.count(&o.Replicas)
	case "sleep":
		return true, r.flag(&o.Sleep)
	}
	return false, nil
}

// check looks for what is wrong with options by themselves.
func (o *PlacementOptions) check(section string) error {
	if _, ok := conflicts[o.OnConflict]; !ok {
		return configErrorf(at(place{section, "on_conflict", ""}), "%s: on_conflict is '%s', but must be '%s', '%s' or '%s'",
			section, o.OnConflict, onConflictEvict, onConflictWait, onConflictReject)
	}
	if o.Replicas < 0 || o.Replicas > mostReplicas {
		return configErrorf(at(place{section, "replicas", ""}), "%s: replicas is %d, but must be 1 to %d", section, o.Replicas, mostReplicas)
	}
	for _, list := range []struct {
		option string
		gpus   []string
	}{{"pin_gpus", o.PinGPUs}, {"exclude_gpus", o.ExcludeGPUs}} {
		for i, uuid := range list.gpus {
			here := at(place{section, list.option, uuid}, place{section, list.option, ""})
			switch {
			case !isUUID(uuid):
				return configErrorf(here, "%s: %s: %q cannot be a GPU's UUID", section, list.option, uuid)
			case slices.Contains(list.gpus[:i], uuid):
				return configErrorf(here, "%s: GPU %s stands in %s twice", section, uuid, list.option)
			}
		}
	}
	for _, uuid := range o.ExcludeGPUs {
		if slices.Contains(o.PinGPUs, uuid) {
			return configErrorf(at(place{section, "exclude_gpus", uuid}), "%s: GPU %s is pinned and excluded", section, uuid)
		}
	}
	return nil
}

// isUUID says whether a text can be a card's UUID.
func isUUID(s string) bool { return s != "" && !strings.ContainsAny(s, ", \t\n") }

// checkPlace looks for what is wrong between a model and its pool.
func (a *App) checkPlace(m *Model) error {
	section := modelSection(m.Name)
	o := a.complete(m)
	poolPlaces := at(place{section, "pool", ""}, place{defaultsSection, "pool", ""}, place{section, "", ""})
	if m.Pool != "" {
		poolPlaces = at(place{section, "pool", ""})
	}
	if o.Pool == "" {
		return configErrorf(at(place{section, "", ""}), "%s is without a pool, and there are several: add 'pool <name>' to it or to the defaults", section)
	}
	p := a.pool(o.Pool)
	if p == nil && (len(a.Pools) > 0 || m.Pool != "" || a.Defaults.Pool != "") {
		return configErrorf(poolPlaces, "%s: there is no pool %s", section, o.Pool)
	}
	if p != nil && o.TensorParallel > len(p.GPUs) {
		return configErrorf(append(at(place{section, "tensor_parallel", ""}), poolPlaces...),
			"%s: tensor_parallel is %d, but %s has %s", section, o.TensorParallel, p.section(), gpuCount(len(p.GPUs)))
	}
	if err := a.checkGPUs(m, o, p); err != nil {
		return err
	}
	return a.checkColocate(m, p)
}

// checkGPUs looks for what is wrong with the cards that a model may run on. o are
// its options, complete; p is its pool, or nil: every card, as many as there may be.
func (a *App) checkGPUs(m *Model, o ModelOptions, p *Pool) error {
	section := modelSection(m.Name)
	if p != nil {
		for _, uuid := range o.PinGPUs {
			if !slices.Contains(p.GPUs, uuid) {
				return configErrorf(at(place{section, "pin_gpus", uuid}, place{section, "pool", ""}, place{section, "", ""}),
					"%s: pin_gpus: GPU %s is not in %s", section, uuid, p.section())
			}
		}
		for _, uuid := range o.ExcludeGPUs {
			// The defaults are for the models of all pools.
			known := slices.Contains(p.GPUs, uuid) || len(m.ExcludeGPUs) == 0 &&
				slices.ContainsFunc(a.Pools, func(p *Pool) bool { return slices.Contains(p.GPUs, uuid) })
			if !known {
				return configErrorf(at(place{section, "exclude_gpus", uuid}, place{defaultsSection, "exclude_gpus", uuid}),
					"%s: exclude_gpus: GPU %s is not in %s", section, uuid, p.section())
			}
		}
	}
	gpus := o.PinGPUs
	if len(gpus) == 0 {
		if p == nil {
			return nil
		}
		gpus = p.GPUs
	}
	gpus = slices.DeleteFunc(slices.Clone(gpus), func(uuid string) bool { return slices.Contains(o.ExcludeGPUs, uuid) })
	here := at(place{section, "pin_gpus", ""}, place{section, "exclude_gpus", ""}, place{section, "tensor_parallel", ""},
		place{defaultsSection, "pin_gpus", ""}, place{defaultsSection, "exclude_gpus", ""})
	switch {
	case len(gpus) == 0:
		return configErrorf(here, "%s: pin_gpus and exclude_gpus leave it no GPU", section)
	case o.TensorParallel > len(gpus):
		return configErrorf(here, "%s: tensor_parallel is %d, but pin_gpus and exclude_gpus leave it %s",
			section, o.TensorParallel, gpuCount(len(gpus)))
	}
	return nil
}

func gpuCount(n int) string {
	if n == 1 {
		return "1 GPU"
	}
	return fmt.Sprintf("%d GPUs", n)
}

// checkColocate looks for models that are to share cards which all do. The
// defaults are for the models of all pools, and mean those that have their cards
// for themselves.
func (a *App) checkColocate(m *Model, p *Pool) error {
	if isOn(m.Colocate) && (p == nil || p.Placement != placeOnWholeCard) {
		section := modelSection(m.Name)
		return configErrorf(at(place{section, "colocate", ""}),
			"%s: colocate is for pools with 'placement %s'; in other pools all models share cards", section, placeOnWholeCard)
	}
	if isOn(a.Defaults.Colocate) && !slices.ContainsFunc(a.Pools, func(p *Pool) bool { return p.Placement == placeOnWholeCard }) {
		return configErrorf(at(place{defaultsSection, "colocate", ""}),
			"%s: colocate is for pools with 'placement %s', and there is none", defaultsSection, placeOnWholeCard)
	}
	return nil
}

// checkSleep looks for a model that is to sleep and whose server cannot. o are its
// options, complete.
func checkSleep(m *Model, o ModelOptions, guest ServerModule) error {
	if _, can := guest.Server().(server.Sleeper); can || !isOn(o.Sleep) {
		return nil
	}
	section := modelSection(m.Name)
	return configErrorf(at(place{section, "sleep", ""}, place{defaultsSection, "sleep", ""}),
		"%s: sleep: its server cannot be put to sleep", section)
}
