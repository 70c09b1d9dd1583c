// This file owns the options on the requests of all models together.

package caddymodule

import "slices"

// Totals bound the requests of all models together, and say where those go that
// name none.
type Totals struct {
	// How many requests are served at once, whatever their model. Default: no limit.
	TotalConcurrent int `json:"total_concurrent,omitempty"`

	// How many requests may wait at once, whatever their model; more are refused with
	// status 429. Default: no limit.
	TotalQueue int `json:"total_queue,omitempty"`

	// The model of requests that name none. Default: they are refused with status 400.
	DefaultModel string `json:"default_model,omitempty"`
}

// option reads one of the options, if word is one.
func (o *Totals) option(r *reader, word string) (known bool, err error) {
	switch word {
	case "total_concurrent":
		return true, r.number(&o.TotalConcurrent, 0)
	case "total_queue":
		return true, r.number(&o.TotalQueue, 0)
	case "default_model":
		return true, r.text(&o.DefaultModel)
	}
	return false, nil
}

// checkTotals looks for values out of range, and for a model that does not exist.
// The models are known to be right.
func (a *App) checkTotals() error {
	switch {
	case a.TotalConcurrent < 0:
		return configErrorf(at(place{"", "total_concurrent", ""}), "total_concurrent must be at least 0")
	case a.TotalQueue < 0:
		return configErrorf(at(place{"", "total_queue", ""}), "total_queue must be at least 0")
	case a.DefaultModel == "" || slices.ContainsFunc(a.Models, func(m *Model) bool { return m.answersTo(a.DefaultModel) }):
		return nil
	}
	return configErrorf(at(place{"", "default_model", ""}), "default_model: there is no model %s", a.DefaultModel)
}

// answersTo says whether a name is the model's, or one of its aliases or adapters.
func (m *Model) answersTo(name string) bool {
	return m.Name == name || slices.Contains(m.Aliases, name) ||
		slices.ContainsFunc(m.LoRA, func(a Adapter) bool { return a.Name == name })
}
