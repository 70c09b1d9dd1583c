// The stand-in as a process of its own, with real signals, sockets and locks.

package vllmsim

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/internal/simcard"
)

const processEnv = "VLLM_SIM_TEST_PROCESS"

func TestMain(m *testing.M) {
	if os.Getenv(processEnv) != "" {
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr, os.Getenv))
	}
	os.Exit(m.Run())
}

type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner // of both outputs
}

func startProcess(t *testing.T, e env, args ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = []string{processEnv + "=1", "GOCOVERDIR=" + t.TempDir()}
	for name, value := range e {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	p := &process{t: t, cmd: cmd, lines: bufio.NewScanner(read)}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		read.Close()
	})
	return p
}

// until reads the output up to a line with this part and returns the line.
func (p *process) until(part string) string {
	p.t.Helper()
	for p.lines.Scan() {
		if strings.Contains(p.lines.Text(), part) {
			return p.lines.Text()
		}
	}
	p.t.Fatalf("the output ended without %q", part)
	return ""
}

// end waits for the process and returns its exit status, -1 if it was killed.
func (p *process) end() int {
	p.t.Helper()
	for p.lines.Scan() {
	}
	err := p.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

func TestProcess(t *testing.T) {
	folder := newCards(t, "GPU-a")
	e := env{"VLLM_SIM_CARDS": folder, "VLLM_SIM_LOAD_TIME": "1ms"}
	args := []string{"serve", "m", "--host", "127.0.0.1", "--port", "0", "--gpu-memory-utilization", "0.25"}

	p := startProcess(t, e, args...)
	address := strings.TrimSpace(strings.SplitAfter(p.until("Starting vLLM API server 0 on http://"), "http://")[1])
	p.until("Application startup complete.")
	res, err := http.Get("http://" + address + "/health")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("/health %d", res.StatusCode)
	}
	card := readCard(t, folder, "GPU-a")
	if len(card.Uses) != 1 || card.Uses[0].PID != p.cmd.Process.Pid || card.Used() != 6*gib+context512 {
		t.Errorf("card %+v", card)
	}

	// A killed server frees its memory at once and refuses connections.
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if status := p.end(); status != -1 {
		t.Errorf("status %d of a killed process", status)
	}
	if card := readCard(t, folder, "GPU-a"); card.Used() != 0 {
		t.Errorf("%d bytes used after the kill", card.Used())
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("a killed server accepts connections")
	}

	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		p := startProcess(t, e, args...)
		p.until("Application startup complete.")
		if err := p.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if status := p.end(); status != 0 {
			t.Errorf("status %d after %v", status, sig)
		}
		if card := readCard(t, folder, "GPU-a"); card.Used() != 0 {
			t.Errorf("%d bytes used after %v", card.Used(), sig)
		}
	}
}

func TestProcessIgnoresTerm(t *testing.T) {
	p := startProcess(t, env{"VLLM_SIM_LOAD_TIME": "1ms", "VLLM_SIM_IGNORE_TERM": "1"}, "m", "--host", "127.0.0.1", "--port", "0")
	address := strings.TrimSpace(strings.SplitAfter(p.until("Starting vLLM API server 0 on http://"), "http://")[1])
	p.until("Application startup complete.")
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		if err := p.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	res, err := http.Get("http://" + address + "/health")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
}

func TestProcessesOverlap(t *testing.T) {
	folder := newCards(t, "GPU-a")
	start := func(name string) *process {
		p := startProcess(t, env{"VLLM_SIM_CARDS": folder, "VLLM_SIM_HANG_START": "1", "VLLM_SIM_LOAD_TIME": "1ms"},
			"m", "--served-model-name", name, "--gpu-memory-utilization", "0.25")
		p.until("Model loading took")
		return p
	}
	one := start("one")
	start("two")
	overlaps, err := simcard.Overlaps(folder)
	if err != nil || len(overlaps) != 1 || overlaps[0].Who != "two" || overlaps[0].OtherPID != one.cmd.Process.Pid {
		t.Errorf("overlaps %v, %v", overlaps, err)
	}
}

func TestMainStatus(t *testing.T) {
	for _, test := range []struct {
		args   string
		env    env
		status int
		want   string
	}{
		{"m --no-such-flag", nil, 2, "vllm: error: unrecognized arguments: --no-such-flag"},
		{"--help", nil, 0, "--gpu-memory-utilization VALUE"},
		{"serve --version", nil, 0, Version},
		{"m", env{"VLLM_SIM_FAIL": "nonsense"}, 1, "VLLM_SIM_FAIL must be one of"},
		{"m", env{"VLLM_SIM_TTFT": "soon"}, 1, "VLLM_SIM_TTFT must be a time"},
		{"m", env{"VLLM_SIM_CARDS": "/nonexistent"}, 1, "no such file"},
	} {
		var out output
		status := Main(strings.Fields(test.args), &out, &out, func(name string) string { return test.env[name] })
		if status != test.status || !strings.Contains(out.String(), test.want) {
			t.Errorf("%s %v: status %d, output %s", test.args, test.env, status, out.String())
		}
	}
}

func TestPortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	cfg := configure(t, env{"VLLM_SIM_LOAD_TIME": "0s"}, "m", "--host", "127.0.0.1", "--port", port)
	var out output
	if status := New(cfg, &out, io.Discard).Run(t.Context()); status != 1 {
		t.Errorf("status %d", status)
	}
}
