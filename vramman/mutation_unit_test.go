package vramman

import (
	"errors"
	"fmt"
	"os/exec"
	"path"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// This file is about the mutations of the pure packages: what those decide is
// proven by their own tests, which each mistake must make fail. Of the manager, it
// has those that the simulation meets too rarely, and a script shows.

// unitMutationLists are the mutations that tests must catch without any world.
var unitMutationLists = [][]mutation{
	scriptMutations,
	placementMutations, ledgerMutations, admissionMutations,
	victimRuleMutations, turnRuleMutations, sleepRuleMutations, endRuleMutations, policyMutations,
	cacheMutations, weightMutations, beliefMutations, sourceMutations,
}

// unit is a mutation of one place.
func unit(file, mistake, old, now string) mutation {
	return mutation{mistake: mistake, file: file, edits: []edit{{old: old, new: now}}}
}

// scriptMutations are mistakes that scripts catch.
var scriptMutations = []mutation{
	{
		mistake: "a start does not look who has died beside it", file: "load.go", test: "TestNobodyStartsBesideADeath",
		edits: []edit{{old: "number > l.fresh && !o.freeing(l) {", new: "number > l.fresh {"}},
	},
	{
		mistake: "a plan is made once", file: "decide.go", test: "TestPlanLeavesNothingToDo",
		edits: []edit{{old: "o.again = true // what was decided before", new: "_ = d // what was decided before"}},
	},
	{
		mistake: "gates of cards that are not to be seen count for nothing", file: "snapshot.go", test: "TestGatesAreHeldWhileAnotherInventoryOpens",
		edits: []edit{{old: "return o.gates[c] != \"\" && o.present(c) == nil })", new: "return false && o.present(c) == nil })"}},
	},
}

// TestUnitMutations runs the tests of each package with each mistake in it. It
// takes minutes: only -mutations has it run.
func TestUnitMutations(t *testing.T) {
	if !*simMutations {
		t.Skip("only with -mutations")
	}
	var list []mutation
	for _, l := range unitMutationLists {
		list = append(list, l...)
	}
	tryMutations(t, list, func(*mutation) bool { return true })
}

// soundness remembers of tests whether they pass without a mistake:
// else they would seem to catch everything.
var soundness struct {
	sync.Mutex
	of map[string]error
}

func (m *mutation) soundTests(t *testing.T, goTool string) error {
	soundness.Lock()
	defer soundness.Unlock()
	if soundness.of == nil {
		soundness.of = make(map[string]error)
	}
	which := m.which()
	name := strings.Join(which, " ")
	err, known := soundness.of[name]
	if !known {
		if out, failed := exec.CommandContext(t.Context(), goTool, append([]string{"test", "-vet=off"}, which...)...).CombinedOutput(); failed != nil {
			err = fmt.Errorf("tests fail without any mutation:\n%.1000s", out)
		}
		soundness.of[name] = err
	}
	return err
}

// which are the tests that are to catch a mutation, as arguments of the go command.
func (m *mutation) which() []string {
	args := []string{"-failfast", "./" + path.Dir(m.file)}
	if m.test != "" {
		args = append(args, "-run", "^"+m.test+"$")
	}
	return args
}

var failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// tryTests says which test has failed.
func (m *mutation) tryTests(t *testing.T, goTool string, args []string) (caught string, _ error) {
	if err := m.soundTests(t, goTool); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(t.Context(), goTool, append(args, m.which()...)...).CombinedOutput()
	failed := failedTest.FindSubmatch(out)
	switch {
	case err != nil && failed != nil:
		return "caught by " + string(failed[1]), nil
	case err == nil:
		return "", fmt.Errorf("mutation %q: its tests pass", m.mistake)
	case strings.Contains(string(out), "panic: test timed out"):
		return "", errors.New("the tests do not end")
	}
	return "", fmt.Errorf("mutation %q: no test fails, but\n%.2000s", m.mistake, out)
}
