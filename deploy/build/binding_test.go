package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckBinding(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skipf("no C compiler: %v", err)
	}
	folder := t.TempDir()
	source := filepath.Join(folder, "main.c")
	if err := os.WriteFile(source, []byte("#include <stdio.h>\nint main(void) { return puts(\"\") < 0; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, flags string
		refused     bool
	}{
		{"lazily", "-Wl,-z,lazy", false},
		{"lazily, in a program that may be anywhere", "-pie -fPIE -Wl,-z,lazy", false},
		{"at once", "-Wl,-z,now", true},
		{"at once, in a program that may be anywhere", "-pie -fPIE -Wl,-z,now", true},
		{"not at all", "-static", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			binary := filepath.Join(t.TempDir(), "binary")
			args := append(strings.Fields(c.flags), "-o", binary, source)
			if out, err := exec.CommandContext(t.Context(), "gcc", args...).CombinedOutput(); err != nil {
				t.Fatalf("gcc %s: %v\n%s", c.flags, err, out)
			}
			if err := checkBinding(binary); (err != nil) != c.refused {
				t.Errorf("error %v, want a refusal: %t", err, c.refused)
			}
		})
	}
}

func TestCheckBindingOfOtherFiles(t *testing.T) {
	if err := checkBinding("main.go"); err != nil {
		t.Errorf("a file that is not Linux's: %v", err)
	}
	if err := checkBinding(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there passes")
	}
}
