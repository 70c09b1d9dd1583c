//go:build cgo && linux && nvml

package nvml

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
)

// The library is loaded in a child of the test: where a call ends the process, the
// test sees how.

const childVariable = "VLLM_GATEWAY_TEST_NVML_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		childMain()
		return
	}
	os.Exit(m.Run())
}

// answer is what a child says to each line that it is told: "open [<library>]",
// "read [<for how long>]" and "close".
type answer struct {
	Cards []gpu.Card
	Err   string
	Log   []string // since the last answer
}

func childMain() {
	var inv gpu.Inventory
	core, said := observer.New(zap.InfoLevel)
	log := zap.New(core)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var a answer
		var err error
		switch word, rest, _ := strings.Cut(lines.Text(), " "); word {
		case "open":
			inv, err = (&Spec{Library: rest}).Open(context.Background(), log)
		case "read":
			ctx, cancel := context.Background(), func() {}
			if patience, err := time.ParseDuration(rest); err == nil {
				ctx, cancel = context.WithTimeout(ctx, patience)
			}
			a.Cards, err = inv.Read(ctx)
			cancel()
		case "close":
			err = inv.Close()
		}
		if err != nil {
			a.Err = err.Error()
		}
		for _, e := range said.TakeAll() {
			a.Log = append(a.Log, e.Message)
		}
		_ = json.NewEncoder(os.Stdout).Encode(a)
	}
}

// child is a process that uses a stand-in library, and the state of that.
type child struct {
	t       *testing.T
	stdin   io.Writer
	answers *json.Decoder
	state   string
}

// newChild starts a child. folder is where it finds libraries.
func newChild(t *testing.T, folder string, env ...string) *child {
	t.Helper()
	c := &child{t: t, state: filepath.Join(t.TempDir(), "state")}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self) // it ends when its input does
	cmd.Env = append(append(os.Environ(), childVariable+"=1", "GORACE=atexit_sleep_ms=0", "LD_LIBRARY_PATH="+folder, "NVML_STANDIN_STATE="+c.state), env...)
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.stdin, c.answers = stdin, json.NewDecoder(stdout)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the process that used the library: %v", err)
		}
	})
	return c
}

// is sets the state that the stand-in reads.
func (c *child) is(lines ...string) {
	c.t.Helper()
	// At once, for the stand-in may be reading.
	next := c.state + ".next"
	if err := os.WriteFile(next, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(next, c.state); err != nil {
		c.t.Fatal(err)
	}
}

// do tells the child something.
func (c *child) do(format string, args ...any) answer {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.stdin, format+"\n", args...); err != nil {
		c.t.Fatal(err)
	}
	var a answer
	if err := c.answers.Decode(&a); err != nil {
		c.t.Fatalf("after %q the process said nothing: %v", format, err)
	}
	return a
}

// standIn builds the stand-in library and returns the folder that it is in.
func standIn(t *testing.T, flags ...string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		if os.Getenv("REQUIRE_DOCKER") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	folder := t.TempDir()
	args := append([]string{"-shared", "-fPIC", "-Wl,-soname=" + standardLibrary, "-o", filepath.Join(folder, standardLibrary)}, flags...)
	if out, err := exec.CommandContext(t.Context(), gcc, append(args, "testdata/nvml.c")...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return folder
}
