// This file owns the results as a whole: what they hold beside the figures, and
// their JSON.

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"runtime"
	"strings"
	"time"
)

// Report is all that was measured.
type Report struct {
	Depth   string    `json:"depth"`
	Began   time.Time `json:"began"`
	Took    string    `json:"took"`
	Machine Machine   `json:"machine"`

	Parts    *PartsResult    `json:"parts,omitempty"`
	EndToEnd *EndToEndResult `json:"end_to_end,omitempty"`
	Memory   *MemoryResult   `json:"memory,omitempty"`
	Swaps    *SwapsResult    `json:"swaps,omitempty"`
	Verdicts []Verdict       `json:"verdicts"`
}

// Machine is what the figures are of.
type Machine struct {
	Go         string `json:"go"`
	System     string `json:"system"`
	Processor  string `json:"processor"`
	Processors int    `json:"processors"`
	// Load is how many processes wanted a processor over the last minute, before and
	// after. What is above the number of processors was in the way.
	LoadBefore string `json:"load_before"`
	LoadAfter  string `json:"load_after"`
}

func newReport(depth string) *Report {
	return &Report{Depth: depth, Began: time.Now(), Machine: Machine{
		Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH,
		Processor: processorName(), Processors: runtime.NumCPU(), LoadBefore: loadAverage(),
	}}
}

func (r *Report) finish() {
	r.Took = time.Since(r.Began).Round(time.Second).String()
	r.Machine.LoadAfter = loadAverage()
	r.Verdicts = verdicts(r)
}

// loadAverage is the first figure of /proc/loadavg; empty where there is none.
func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// processorName is what /proc/cpuinfo calls the first processor; empty where there
// is none.
func processorName() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	_, rest, _ := bytes.Cut(text, []byte("model name\t: "))
	name, _, _ := bytes.Cut(rest, []byte("\n"))
	return string(name)
}

func writeJSON(file string, value any) error {
	text, err := json.MarshalIndent(value, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644) //nolint:gosec // results are for everybody to read
}
