package vramman

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// This file is about the mutations of the pure packages: what those decide is
// proven by their own tests, which each mistake must make fail.

// unitMutationLists are the mutations of all pure packages.
var unitMutationLists = [][]mutation{
	placementMutations, ledgerMutations, admissionMutations,
	victimRuleMutations, turnRuleMutations, sleepRuleMutations, endRuleMutations, policyMutations,
	cacheMutations, weightMutations, beliefMutations, sourceMutations,
}

// unit is a mutation of one place.
func unit(file, mistake, old, now string) mutation {
	return mutation{mistake: mistake, file: file, edits: []edit{{old: old, new: now}}}
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

// soundness remembers of each package whether its tests pass without a mistake:
// else they would seem to catch everything.
var soundness struct {
	sync.Mutex
	of map[string]error
}

func soundTests(t *testing.T, goTool, folder string) error {
	soundness.Lock()
	defer soundness.Unlock()
	if soundness.of == nil {
		soundness.of = make(map[string]error)
	}
	err, known := soundness.of[folder]
	if !known {
		if out, failed := exec.CommandContext(t.Context(), goTool, "test", "-vet=off", "./"+folder).CombinedOutput(); failed != nil {
			err = fmt.Errorf("the tests of %s fail without any mutation:\n%.1000s", folder, out)
		}
		soundness.of[folder] = err
	}
	return err
}

var failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// tryTests says which test has failed.
func (m *mutation) tryTests(t *testing.T, goTool string, args []string) (caught string, _ error) {
	if err := soundTests(t, goTool, m.folder()); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(t.Context(), goTool, args...).CombinedOutput()
	failed := failedTest.FindSubmatch(out)
	switch {
	case err != nil && failed != nil:
		return "caught by " + string(failed[1]), nil
	case err == nil:
		return "", fmt.Errorf("mutation %q: the tests of %s pass", m.mistake, m.folder())
	case strings.Contains(string(out), "panic: test timed out"):
		return "", errors.New("the tests do not end")
	}
	return "", fmt.Errorf("mutation %q: no test of %s fails, but\n%.2000s", m.mistake, m.folder(), out)
}
