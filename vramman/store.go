package vramman

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
)

// This file is about what outlives the process: what was measured of models, and
// what was found for good. It is read once, before the first start is decided,
// and written after each change.

const (
	keyMeasured = "footprints.json"
	keyKept     = "found.json"
	// asideSuffix is added to the key of a value that was not understood.
	asideSuffix = ".aside"
	// storeTimeout bounds reading or writing it once.
	storeTimeout = 10 * time.Second
	// saveRetry is how soon a write that failed is tried again.
	saveRetry = time.Minute
)

// kept is what was found once and is to stay, beside the measurements.
type kept struct {
	Format  string         `json:"format"`
	Degrees map[string]int `json:"degrees,omitempty"` // degrees of tensor parallelism, by what they were found for
}

// keptFormat names what the value is.
const keptFormat = "vllm-gateway found 1"

// storeState is how far the store is.
type storeState struct {
	store   Store // of the spec in force; nil: none
	read    bool  // what it holds is known, or will never be
	reading bool
	writing bool
	dirty   bool // there is more to write than what is being written
	retryAt time.Time
}

// storeRead says whether what was kept is known.
func (o *owner) storeRead() bool { return o.spec == nil || o.spec.Store == nil || o.store.read }

// useStore reads the store of the spec in force, the first that there is. Those
// of later specs are written to, and hold nothing that is not known already.
func (o *owner) useStore(s Store) {
	o.store.store = s
	if s != nil && !o.store.read && !o.store.reading {
		o.store.reading = true
		o.fx.loadStore(s)
	}
}

// stored is told what the store held. What was not understood was set aside by
// the worker; nothing of it keeps the gateway from starting.
func (o *owner) stored(e storedEvent) {
	o.store.reading, o.store.read = false, true
	for _, err := range e.errs {
		o.log.Warn("what earlier runs measured cannot be read; it is measured again", zap.Error(err))
	}
	o.measured = e.measured.Merge(o.measured)
	for key, d := range e.kept.Degrees {
		if _, known := o.kept.Degrees[key]; !known {
			if o.kept.Degrees == nil {
				o.kept.Degrees = make(map[string]int)
			}
			o.kept.Degrees[key] = d
		}
	}
	o.forgetFootings()
	o.again = true
}

// save has what is to be kept written.
func (o *owner) save() {
	switch {
	case o.store.store == nil || !o.store.read:
		return
	case o.store.writing:
		o.store.dirty = true
		return
	}
	o.store.writing, o.store.dirty, o.store.retryAt = true, false, time.Time{}
	o.kept.Format = keptFormat
	text, err := json.Marshal(o.kept)
	if err != nil {
		o.log.DPanic("encoding what was found", zap.Error(err))
	}
	o.fx.saveStore(o.store.store, map[string][]byte{keyMeasured: o.measured.Encode(), keyKept: append(text, '\n')})
}

// saved is told that it was written, or not.
func (o *owner) saved(now time.Time, err error) {
	o.store.writing = false
	if err != nil {
		o.log.Warn("what was measured cannot be written; it is tried again", zap.Error(err))
		o.store.retryAt = now.Add(saveRetry)
		return
	}
	if o.store.dirty {
		o.save()
	}
}

// decodeStore reads the values of a store. Each that is not there is empty; each
// that is not understood is named among the errors.
func decodeStore(load func(key string) ([]byte, error)) (e storedEvent, aside map[string][]byte) {
	aside = make(map[string][]byte)
	read := func(key string, decode func([]byte) error) {
		text, err := load(key)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return
		case err != nil:
			e.errs = append(e.errs, fmt.Errorf("reading %s: %w", key, err))
			return
		}
		if err := decode(text); err != nil {
			aside[key+asideSuffix] = text
			e.errs = append(e.errs, fmt.Errorf("%s is set aside as %s%s: %w", key, key, asideSuffix, err))
		}
	}
	read(keyMeasured, func(text []byte) (err error) {
		e.measured, err = footprint.DecodeMeasured(text)
		return err
	})
	read(keyKept, func(text []byte) error {
		var k kept
		d := json.NewDecoder(bytes.NewReader(text))
		if err := d.Decode(&k); err != nil {
			return err
		}
		if k.Format != keptFormat {
			return fmt.Errorf("its format is %.40q", k.Format)
		}
		for key, degree := range k.Degrees {
			if degree < 1 || degree > 1024 {
				return fmt.Errorf("the degree %d of %.80q is none", degree, key)
			}
		}
		e.kept = k
		return nil
	})
	return e, aside
}
