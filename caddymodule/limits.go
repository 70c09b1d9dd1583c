// This file owns the limits that stand both at the top level and with each model.

package caddymodule

import (
	"cmp"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Limits bound what a model's requests and its server may take. At the top level
// they are every model's default, not totals.
type Limits struct {
	// How long a model may be without a request before it is stopped. 0 means that
	// it stays until its room is needed. Default: `30m`.
	IdleTimeout *caddy.Duration `json:"idle_timeout,omitempty"`

	// For how long after it became ready a model is spared from making room for
	// others, unless nothing else frees enough. 0 spares none. Default: `90s`.
	MinResidency *caddy.Duration `json:"min_residency,omitempty"`

	// How long a server may take from its start until it is ready. What must be
	// downloaded before does not count. Default: `10m`.
	StartTimeout caddy.Duration `json:"start_timeout,omitempty"`

	// How long a server that is asked to stop may take before it is killed. When
	// the gateway itself exits, no server gets more than 50 s. Default: `30s`.
	StopGrace caddy.Duration `json:"stop_grace,omitempty"`

	// How many requests an instance of the model serves at once. Default: 50.
	MaxConcurrent int `json:"max_concurrent,omitempty"`

	// How many requests may wait for the model beyond those that are served; more
	// are refused with status 429. 0 lets none wait. Default: 200.
	MaxQueue *int `json:"max_queue,omitempty"`

	// How long a request may wait from its arrival until an instance takes it,
	// queue and load together. Default: `15m`.
	MaxWait caddy.Duration `json:"max_wait,omitempty"`
}

// standardLimits apply where a configuration says nothing.
var standardLimits = Limits{
	IdleTimeout:   new(caddy.Duration(30 * time.Minute)),
	MinResidency:  new(caddy.Duration(90 * time.Second)),
	StartTimeout:  caddy.Duration(10 * time.Minute),
	StopGrace:     caddy.Duration(30 * time.Second),
	MaxConcurrent: 50,
	MaxQueue:      new(200),
	MaxWait:       caddy.Duration(15 * time.Minute),
}

// over returns the limits with those that are missing taken from base.
func (l Limits) over(base Limits) Limits {
	return Limits{
		IdleTimeout:   cmp.Or(l.IdleTimeout, base.IdleTimeout),
		MinResidency:  cmp.Or(l.MinResidency, base.MinResidency),
		StartTimeout:  cmp.Or(l.StartTimeout, base.StartTimeout),
		StopGrace:     cmp.Or(l.StopGrace, base.StopGrace),
		MaxConcurrent: cmp.Or(l.MaxConcurrent, base.MaxConcurrent),
		MaxQueue:      cmp.Or(l.MaxQueue, base.MaxQueue),
		MaxWait:       cmp.Or(l.MaxWait, base.MaxWait),
	}
}

// option reads one of the limits, if word is one.
func (l *Limits) option(r *reader, word string) (known bool, err error) {
	switch word {
	case "idle_timeout":
		return true, r.durationOrZero(&l.IdleTimeout)
	case "min_residency":
		return true, r.durationOrZero(&l.MinResidency)
	case "start_timeout":
		return true, r.duration(&l.StartTimeout)
	case "stop_grace":
		return true, r.duration(&l.StopGrace)
	case "max_concurrent":
		return true, r.count(&l.MaxConcurrent)
	case "max_queue":
		return true, r.countOrZero(&l.MaxQueue)
	case "max_wait":
		return true, r.duration(&l.MaxWait)
	}
	return false, nil
}

// check looks for values out of range.
func (l *Limits) check(section string) error {
	for _, d := range []struct {
		option string
		value  *caddy.Duration
	}{
		{"idle_timeout", l.IdleTimeout},
		{"min_residency", l.MinResidency},
		{"start_timeout", &l.StartTimeout},
		{"stop_grace", &l.StopGrace},
		{"max_wait", &l.MaxWait},
	} {
		if d.value != nil && *d.value < 0 {
			return configErrorf(at(place{section, d.option, ""}), "%s is negative", optionName(section, d.option))
		}
	}
	if l.MaxConcurrent < 0 {
		return configErrorf(at(place{section, "max_concurrent", ""}), "%s must be at least 1", optionName(section, "max_concurrent"))
	}
	if l.MaxQueue != nil && *l.MaxQueue < 0 {
		return configErrorf(at(place{section, "max_queue", ""}), "%s must be at least 0", optionName(section, "max_queue"))
	}
	return nil
}

// optionName is an option with its section, as messages name it.
func optionName(section, option string) string {
	if section == "" {
		return option
	}
	return section + ": " + option
}
