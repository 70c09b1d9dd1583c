package vramman

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

var simMutations = flag.Bool("mutations", false, "try every mutation, those of the pure packages too, not only one for each invariant")

// mutation is a mistake made on purpose: with it, the simulation must break, or the
// tests of the package that it is in must fail. So a list of them shows of each
// invariant that its check can fail, and of each rule that it is tested.
type mutation struct {
	invariant int    // which breaks in the simulation; 0: tests fail
	test      string // without an invariant: which test fails; empty: any of the package's own
	mistake   string // in words
	file      string // of the package vramman or below
	edits     []edit
	says      string // what stands in the message of the simulation
	worlds    int    // how many it may take to notice; 0: mutationWorlds
	short     bool   // tried in every run of the tests
}

// edit replaces a piece of text that stands in the file once.
type edit struct {
	old, new string
	file     string // empty: the mutation's
}

// mutationWorlds are enough for most mistakes.
const mutationWorlds = 150

// TestMutations builds the package with each mistake and runs the simulation,
// which must break in the way that the mutation says. Nothing is written but an
// overlay for the compiler.
func TestMutations(t *testing.T) {
	tryMutations(t, mutations(), func(m *mutation) bool { return m.short || *simMutations })
}

// tryMutations tries those mutations that are wanted, some at a time, and names
// those that nothing has caught.
func tryMutations(t *testing.T, list []mutation, wanted func(*mutation) bool) {
	goTool, err := exec.LookPath("go")
	switch {
	case raceEnabled:
		t.Skip("what this shows has nothing to do with races")
	case testing.Short():
		t.Skip("each mutation is compiled")
	case err != nil:
		t.Skip("there is no go command")
	}
	var mu sync.Mutex
	var tried int
	var uncaught []string
	t.Cleanup(func() {
		if len(uncaught) > 0 {
			slices.Sort(uncaught)
			t.Errorf("%d of %d mutations are not caught:\n\t%s", len(uncaught), tried, strings.Join(uncaught, "\n\t"))
		}
	})
	for n := range list {
		m := &list[n]
		if !wanted(m) {
			continue
		}
		tried++
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			how, err := m.try(t, goTool)
			if err != nil {
				t.Error(err)
				mu.Lock()
				uncaught = append(uncaught, m.String())
				mu.Unlock()
				return
			}
			t.Log(how)
		})
	}
}

func (m *mutation) String() string {
	if m.invariant == 0 {
		folder, _, _ := strings.Cut(m.file, "/") // or the file itself
		return fmt.Sprintf("%s: %s", folder, m.mistake)
	}
	return fmt.Sprintf("%d %s", m.invariant, m.mistake)
}

// mutations is the list for the simulation; each subject adds its own.
func mutations() []mutation { return slices.Concat(mutationLists...) }

// TestEveryInvariantHasAMutation sees to it that the list leaves none out.
func TestEveryInvariantHasAMutation(t *testing.T) {
	count, short := make(map[int]int), make(map[int]bool)
	for _, m := range mutations() {
		count[m.invariant]++
		short[m.invariant] = short[m.invariant] || m.short
	}
	for n := 1; n <= 10; n++ {
		if count[n] == 0 {
			t.Errorf("no mutation shows that the check of invariant %d can fail", n)
		}
		if !short[n] {
			t.Errorf("no mutation of invariant %d is tried in every run of the tests", n)
		}
	}
}

// TestMutationsMatchTheSource sees to it that whoever changes a text changes the
// mutations of it: every run of the tests says so, not only one that tries them all.
func TestMutationsMatchTheSource(t *testing.T) {
	for _, m := range slices.Concat(mutations(), slices.Concat(unitMutationLists...)) {
		if _, err := m.mutated(); err != nil {
			t.Error(err)
		}
	}
}

// mutated is the files with the mistake in them.
func (m *mutation) mutated() (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, e := range m.edits {
		file := cmp.Or(e.file, m.file)
		if files[file] == nil {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			files[file] = text
		}
		if n := bytes.Count(files[file], []byte(e.old)); n != 1 {
			return nil, fmt.Errorf("mutation %q: %q stands %d times in %s, not once", m.mistake, e.old, n, file)
		}
		files[file] = bytes.Replace(files[file], []byte(e.old), []byte(e.new), 1)
	}
	return files, nil
}

// overlay writes the files, and what has the compiler take them for ours.
func (m *mutation) overlay(folder string) (string, error) {
	files, err := m.mutated()
	if err != nil {
		return "", err
	}
	replace := make(map[string]string)
	for file, text := range files {
		original, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		replace[original] = filepath.Join(folder, strings.ReplaceAll(file, "/", "-"))
		if err := os.WriteFile(replace[original], text, 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", err
	}
	name := filepath.Join(folder, "overlay.json")
	return name, os.WriteFile(name, text, 0o600)
}

// try says how the mutation was caught, or in the error, that it was not.
func (m *mutation) try(t *testing.T, goTool string) (caught string, _ error) {
	overlay, err := m.overlay(t.TempDir())
	if err != nil {
		return "", err
	}
	// A mutant does not live long enough to be worth optimising.
	args := []string{"test", "-overlay", overlay, "-vet=off", "-count=1", "-timeout=5m", "-gcflags=-N -l"}
	if m.invariant == 0 {
		return m.tryTests(t, goTool, args[:len(args)-1]) // some count allocations
	}
	out, err := exec.CommandContext(t.Context(), goTool, append(args, "-run", "^TestSimulation$", ".",
		"-worlds", fmt.Sprint(cmp.Or(m.worlds, mutationWorlds)), "-invariant", fmt.Sprint(m.invariant), "-shrink", "0")...).CombinedOutput()
	want := fmt.Sprintf("invariant %d: ", m.invariant)
	at := strings.Index(string(out), want)
	if err == nil || at < 0 || !strings.Contains(firstLine(string(out)[at:]), m.says) {
		return "", fmt.Errorf("mutation %q: the simulation does not say %q… %q, but\n%.3000s", m.mistake, want, m.says, out)
	}
	return firstLine(string(out)[at:]), nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
