package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/internal/vllmsim"
)

// TestMain is also the program of the processes that tests start.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "serve":
			os.Exit(serveMain(os.Args[2:]))
		case "vllm-sim":
			os.Exit(vllmsim.Main(os.Args[2:], os.Stdout, os.Stderr, os.Getenv))
		}
	}
	code := m.Run()
	closeTestRig()
	os.Exit(code)
}

func TestParse(t *testing.T) {
	s, err := parse([]string{"--json", "a.json", "quick", "--baseline=b.json", "--only", "parts,swaps", "--peer", "other=http://127.0.0.1:9000"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if s.depth.name != "quick" || s.json != "a.json" || s.baseline != "b.json" || strings.Join(s.only, " ") != "parts swaps" ||
		len(s.peers) != 1 || s.peers[0].name != "other" || s.peers[0].plain.String() != "http://127.0.0.1:9000" {
		t.Errorf("parsed %+v", s)
	}
	for _, c := range []struct {
		args, told string
	}{
		{"", "usage"},
		{"thorough", "usage"},
		{"quick realistic", "usage"},
		{"quick --only memory,lock", `there is no group "lock"`},
		{"quick --peer other", "name=url"},
		{"quick --peer gateway=http://127.0.0.1:1", "give the peer another"},
		{"quick --peer a=http://192.0.2.1:80", "192.0.2.1 is not a loopback address"},
		{"quick --peer a=http://example.com", "example.com is not a loopback address"},
		{"quick --peer a=http://localhost.example.com:80", "not a loopback address"},
		{"quick --peer a=https://127.0.0.1:1", "http://127.0.0.1:<port>"},
		{"quick --peer a=http://127.0.0.1:1/v1", "without a path"},
		{"quick --peer-pid 1", "after the peer"},
		{"quick --peer a=http://127.0.0.1:1 --peer-pid x", "no process number"},
		{"quick --upstream 0.0.0.0:80", "0.0.0.0 is not a loopback address"},
	} {
		var out bytes.Buffer
		_, err := parse(strings.Fields(c.args), &out)
		if err == nil || !strings.Contains(out.String()+err.Error(), c.told) {
			t.Errorf("%q: %v, want %q; told:\n%s", c.args, err, c.told, &out)
		}
		if c.told == "usage" && !errors.Is(err, flag.ErrHelp) {
			t.Errorf("%q: %v", c.args, err)
		}
	}
	for _, ok := range []string{"a=http://localhost:80", "a=http://[::1]:80", "a=http://127.9.9.9/"} {
		if _, err := parsePeer(ok); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
}

// Processor time grows with what is done, and is told of other processes too.
func TestCPUTime(t *testing.T) {
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Skip(err)
	}
	for selfCPU() < before+20*time.Millisecond {
		_ = chatBody(1<<10, false)
	}
	if after, err := cpuTime(os.Getpid()); err != nil || after < before+10*time.Millisecond {
		t.Errorf("%v before and %v after 20 ms, %v", before, after, err)
	}
	if _, err := cpuTime(os.Getppid()); err != nil {
		t.Error(err)
	}
}
