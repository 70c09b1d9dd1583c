// This file owns the way from a configuration to what the manager is given.

package caddymodule

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// What holds where the configuration says nothing.
const (
	standardName           = "main"
	standardMaxWaitForTurn = 2 * time.Minute
	standardDrainTimeout   = 10 * time.Minute
)

var (
	standardServer   = json.RawMessage(`{"` + serverKey + `":"vllm"}`)
	standardEviction = json.RawMessage(`{"` + evictionKey + `":"lru"}`)
)

// check looks for what is wrong with the configuration by itself, without its
// guest modules. It changes nothing.
func (a *App) check() error {
	switch {
	case a.Name != "" && !isName(a.Name):
		return configErrorf(at(place{"", "name", ""}), "%q cannot be a gateway's name: use letters, digits, '-', '_' and '.'", a.Name)
	case a.EngineRaw == nil:
		return configErrorf(at(place{}), "no engine is configured: add 'engine' with one of %s", guestNames(engineNamespace))
	case a.GPUsRaw == nil:
		return configErrorf(at(place{}), "no cards are configured: add 'gpus' with one of %s", guestNames(gpusNamespace))
	case slices.Contains(a.Pools, nil) || slices.Contains(a.Models, nil):
		return configErrorf(at(place{}), "a pool or a model is null")
	case a.MaxWaitForTurn < 0:
		return configErrorf(at(place{"", "max_wait_for_turn", ""}), "max_wait_for_turn is negative")
	case a.DrainTimeout < 0:
		return configErrorf(at(place{"", "drain_timeout", ""}), "drain_timeout is negative")
	case a.SleepMemory != 0 && a.SleepMemory < leastVRAM:
		return configErrorf(at(place{"", "sleep_memory", ""}), "sleep_memory of %d bytes is too little: is a unit missing, as in '64GiB'?", a.SleepMemory)
	}
	if err := a.Limits.check(""); err != nil {
		return err
	}
	if err := a.checkPools(); err != nil {
		return err
	}
	if err := a.checkModels(); err != nil {
		return err
	}
	if err := a.checkTotals(); err != nil {
		return err
	}
	return a.checkContainers()
}

// guestNames lists the modules of a namespace, for messages.
func guestNames(namespace string) string {
	var names []string
	for _, m := range caddy.GetModules(namespace) {
		names = append(names, "'"+m.ID.Name()+"'")
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// spec loads the guest modules and makes the manager's spec. The configuration was checked.
func (a *App) spec(ctx caddy.Context) (*vramman.Spec, error) {
	name := cmp.Or(a.Name, standardName)
	if a.EvictionRaw == nil {
		a.EvictionRaw = standardEviction
	}
	engine, err := loadGuest[EngineModule](ctx, a, "EngineRaw", "engine")
	if err != nil {
		return nil, err
	}
	engineSpec, err := engine.EngineSpec(name)
	if err != nil {
		return nil, err
	}
	gpus, err := loadGuest[GPUModule](ctx, a, "GPUsRaw", "GPU inventory")
	if err != nil {
		return nil, err
	}
	eviction, err := loadGuest[EvictionModule](ctx, a, "EvictionRaw", "eviction policy")
	if err != nil {
		return nil, err
	}
	spec := &vramman.Spec{
		Name:           name,
		Engine:         engineSpec,
		GPUs:           gpus.GPUSpec(name),
		Eviction:       eviction.Policy(),
		Pools:          a.poolSpecs(),
		MaxWaitForTurn: cmp.Or(duration(a.MaxWaitForTurn), standardMaxWaitForTurn),
		DrainTimeout:   cmp.Or(duration(a.DrainTimeout), standardDrainTimeout),
		SleepMemory:    a.SleepMemory,
		Store:          newStorage(ctx.Storage(), name),
		Log:            a.log,

		TotalConcurrent: a.TotalConcurrent,
		TotalQueue:      a.TotalQueue,
	}
	a.requestDefaults = make(map[string]*openai.Defaults)
	a.requestLimits = make(map[string]openai.Limits)
	a.fallbacks = make(map[string]*fallback)
	for _, m := range a.Models {
		ms, err := a.modelSpec(ctx, m)
		if err != nil {
			return nil, err
		}
		spec.Models = append(spec.Models, ms)
	}
	return spec, nil
}

// modelSpec makes one model's spec, and keeps what the handlers need of it.
func (a *App) modelSpec(ctx caddy.Context, m *Model) (vramman.ModelSpec, error) {
	o := a.complete(m)
	fail := func(err error) (vramman.ModelSpec, error) {
		return vramman.ModelSpec{}, fmt.Errorf("%s: %w", modelSection(m.Name), err)
	}
	guest, err := loadGuest[ServerModule](ctx, &o, "ServerRaw", "server")
	if err != nil {
		return fail(err)
	}
	if err := checkAgainstServer(m, o, guest); err != nil {
		return vramman.ModelSpec{}, err
	}
	env, err := resolveEnv(o.Env, a.log.With(zap.String("model", m.Name)))
	if err != nil {
		return fail(err)
	}
	defaults, err := parseDefaults(o.RequestDefaults)
	if err != nil {
		return fail(err)
	}
	if defaults != nil {
		a.requestDefaults[m.Name] = defaults
	}
	a.requestLimits[m.Name] = o.RequestOptions.limits()
	if err := a.readFallback(m, o); err != nil {
		return fail(err)
	}
	mounts, err := o.mounts()
	if err != nil {
		return fail(err)
	}
	return m.spec(o, guest.Server(), env, mounts), nil
}

// loadGuest loads the guest module in a field of parent.
func loadGuest[T any](ctx caddy.Context, parent any, field, what string) (T, error) {
	var none T
	module, err := ctx.LoadModule(parent, field)
	if err != nil {
		return none, fmt.Errorf("loading the %s: %w", what, err)
	}
	guest, ok := module.(T)
	if !ok {
		return none, fmt.Errorf("the module %T cannot serve as %s", module, what)
	}
	return guest, nil
}
