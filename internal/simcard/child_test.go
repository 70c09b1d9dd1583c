// Other processes for the tests: locks show only between processes, so the test
// binary runs itself again and obeys commands on its standard input.

package simcard

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const childEnv = "SIMCARD_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(childMain(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// childMain answers each command with one line: "enter FOLDER CARD LABEL PHASE",
// "set BYTES PHASE", "hold FOLDER CARD LABEL BYTES", "used FOLDER CARD", "close".
func childMain(in io.Reader, out io.Writer) int {
	var entry *Entry
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var verb, folder, card, label, phase string
		var bytes int64
		var overlaps []Overlap
		var err error
		line := lines.Text()
		switch verb, _, _ = strings.Cut(line, " "); verb {
		case "enter":
			fmt.Sscan(line, &verb, &folder, &card, &label, &phase)
			entry, overlaps, err = Enter(folder, card, label, Phase(phase))
		case "set":
			fmt.Sscan(line, &verb, &bytes, &phase)
			overlaps, err = entry.Set(bytes, Phase(phase))
		case "hold":
			fmt.Sscan(line, &verb, &folder, &card, &label, &bytes)
			entry, err = Hold(folder, card, label, bytes)
		case "used":
			fmt.Sscan(line, &verb, &folder, &card)
			var c Card
			if c, err = Read(folder, card); err == nil {
				fmt.Fprintln(out, "used", c.Used())
				continue
			}
		case "close":
			err = entry.Close()
		}
		if err != nil {
			fmt.Fprintln(out, "error", err)
			continue
		}
		fmt.Fprintln(out, "overlaps", len(overlaps))
	}
	return 0
}

type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	killed bool
}

func startChild(t *testing.T) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(c.kill)
	return c
}

// do sends a command and returns the answer.
func (c *child) do(format string, args ...any) string {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.in, format+"\n", args...); err != nil {
		c.t.Fatalf("child: %v", err)
	}
	answer, err := c.out.ReadString('\n')
	if err != nil {
		c.t.Fatalf("child: %v", err)
	}
	return strings.TrimSpace(answer)
}

// must sends a command and demands the answer.
func (c *child) must(want, format string, args ...any) {
	c.t.Helper()
	if got := c.do(format, args...); got != want {
		c.t.Fatalf("child answered %q to %q, want %q", got, fmt.Sprintf(format, args...), want)
	}
}

// kill ends the child as the kernel's out-of-memory killer would, and returns
// when it is gone.
func (c *child) kill() {
	if c.killed {
		return
	}
	c.killed = true
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}
