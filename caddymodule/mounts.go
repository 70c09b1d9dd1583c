// This file owns folders of the host that containers see.

package caddymodule

import (
	"fmt"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// Mount shows a folder of Docker's host, or one of its volumes, to servers.
type Mount struct {
	// The folder's full path, or the volume's name. May have placeholders.
	Source string `json:"source,omitempty"`

	// Where servers see it.
	Target string `json:"target,omitempty"`

	// Servers can read it only. Default: false.
	ReadOnly bool `json:"read_only,omitempty"`
}

// readMount reads a mount's line: <source> <target> [ro].
func readMount(r *reader, mounts *[]Mount) error {
	var m Mount
	switch args := r.RemainingArgs(); {
	case len(args) == 3 && args[2] == "ro":
		m = Mount{args[0], args[1], true}
	case len(args) == 3:
		return r.Errf("mount: '%s' is unknown: the third word, if any, is 'ro'", args[2])
	case len(args) == 2:
		m = Mount{args[0], args[1], false}
	default:
		return r.ArgErr()
	}
	*mounts = append(*mounts, m)
	return nil
}

// engineMounts are the mounts as engines take them, each source given to resolve.
func engineMounts(mounts []Mount, resolve func(option, text string) (string, error)) ([]engine.Mount, error) {
	all := make([]engine.Mount, len(mounts))
	for i, m := range mounts {
		source, err := resolve("mount", m.Source)
		if err != nil {
			return nil, fmt.Errorf("the mount at %s: %w", m.Target, err)
		}
		all[i] = engine.Mount{Source: source, Target: m.Target, ReadOnly: m.ReadOnly}
	}
	return all, nil
}
