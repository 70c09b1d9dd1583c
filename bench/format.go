// This file owns how figures are written.

package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// nanos writes nanoseconds in the unit that suits them.
func nanos(ns float64) string {
	switch a := math.Abs(ns); {
	case a < 1e3:
		return fmt.Sprintf("%.0f ns", ns)
	case a < 1e6:
		return fmt.Sprintf("%.2f µs", ns/1e3)
	}
	return fmt.Sprintf("%.2f ms", ns/1e6)
}

// micros writes microseconds likewise.
func micros(us float64) string {
	switch a := math.Abs(us); {
	case a < 100:
		return fmt.Sprintf("%.1f µs", us)
	case a < 10_000:
		return fmt.Sprintf("%.0f µs", us)
	}
	return fmt.Sprintf("%.1f ms", us/1e3)
}

func bytesText(n float64) string {
	switch a := math.Abs(n); {
	case a < 10<<10:
		return fmt.Sprintf("%.0f B", n)
	case a < 10<<20:
		return fmt.Sprintf("%.1f KiB", n/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", n/(1<<20))
}

// figure writes a number with three digits that count, and its unit.
func figure(n float64, unit string) string {
	text := fmt.Sprintf("%.3g", n)
	if math.Abs(n) >= 100 {
		text = fmt.Sprintf("%.0f", n)
	}
	if unit != "" {
		text += " " + unit
	}
	return text
}

func interval(i Interval) string {
	return fmt.Sprintf("%.2f (%.2f to %.2f)", i.Median, i.Low, i.High)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
