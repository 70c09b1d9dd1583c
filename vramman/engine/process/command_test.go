//go:build linux

// This file owns the tests of finding and executing the program.

package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

func TestCommandMissing(t *testing.T) {
	dir := t.TempDir()
	plainFile := filepath.Join(dir, "vllm")
	if err := os.WriteFile(plainFile, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l := &engine.Launch{ID: "x", Args: func(engine.Listen) []string { return nil }}
	for _, c := range []struct{ command, path, want string }{
		{"no-such-server", "/usr/bin:/bin", "install it"},
		{"vllm", dir, "not found in the server's PATH"},
		{plainFile, "", "chmod +x"},
		{filepath.Join(dir, "absent"), "", "does not exist"},
	} {
		e, err := Spec{Command: []string{c.command}, Env: []string{"PATH=" + c.path}}.Open(t.Context(), zaptest.NewLogger(t))
		if err != nil {
			t.Fatal(err)
		}
		for name, err := range map[string]error{"fetch": e.Fetch(t.Context(), l), "start": second(e.Start(t.Context(), l))} {
			if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "is not found", "not found"), c.want) {
				t.Errorf("%s of %s: %v, want it to say %q", name, c.command, err, c.want)
			}
		}
	}
}

func TestCommandOfTheServersPath(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho ready $$\nexit 4\n"
	if err := os.WriteFile(filepath.Join(dir, "my-vllm"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	e, err := Spec{Command: []string{"my-vllm"}, Env: []string{"PATH=relative:" + dir + ":/bin", "GORACE=atexit_sleep_ms=0"}}.Open(t.Context(), zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	s := run(t, e.(*Engine))
	if exit := s.ended(t); exit.Code != 4 {
		t.Errorf("exit %+v, lines %q", exit, s.rest())
	}
}

func TestProgramThatCannotBeExecuted(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("not a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	e, err := Spec{Command: []string{broken}}.Open(t.Context(), zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Start(t.Context(), &engine.Launch{ID: "broken", Args: func(engine.Listen) []string { return nil }})
	if err == nil || !strings.Contains(err.Error(), "exec format error") {
		t.Errorf("got %v", err)
	}
}
