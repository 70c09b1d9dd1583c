package engine

import (
	"maps"
	"slices"
	"strings"
)

// MergeEnv puts sets of KEY=VALUE together: the last entry of a name wins, and
// the names come sorted. What has no name is dropped.
func MergeEnv(sets ...[]string) []string {
	values := make(map[string]string)
	for _, set := range sets {
		for _, kv := range set {
			if name, _, ok := strings.Cut(kv, "="); ok && name != "" {
				values[name] = kv
			}
		}
	}
	merged := make([]string, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		merged = append(merged, values[name])
	}
	return merged
}
