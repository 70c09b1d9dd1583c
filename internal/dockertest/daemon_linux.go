// This file owns a Docker of a test's own, which the test may starve, break, kill
// and start again.

package dockertest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
)

// ownHost is where a Docker of a test's own listens, and ownPID its process
// number: the usual places, which are empty for a test that runs apart.
const (
	ownHost = client.DefaultDockerHost
	ownPID  = "/run/docker.pid"
)

// stopLimit bounds how long a daemon may take to end.
const stopLimit = 30 * time.Second

// Options say what a Docker of a test's own is like.
type Options struct {
	// Disk is the size of its disk, in bytes. 0 means 512 MiB, of which only
	// what is used takes memory.
	Disk int64
	// Config is its daemon.json.
	Config map[string]any
	// Env is added to its environment, as KEY=VALUE.
	Env []string
	// Programs are shell scripts by their names, which it finds instead of the
	// host's programs of these names. An empty one: it finds none of that name.
	Programs map[string]string
}

// Own is a Docker of a test's own. Its methods fail the test when they cannot do
// what they say.
type Own struct {
	Host string // for DOCKER_HOST, which is set to it
	Root string // the folder in which it keeps everything, a file system of its own

	t       *testing.T
	dir     string // its configuration and its log
	options Options
	path    string        // where it looks for programs
	process *os.Process   // nil: it does not run
	ended   chan struct{} // closed once process has ended
}

// NewOwn starts a Docker for a test that runs apart, see [Apart]; one at a time.
// At the end of the test it is ended, and what it had mounted is unmounted.
func NewOwn(t *testing.T, o Options) *Own {
	t.Helper()
	if os.Getenv(apartVar) == "" {
		t.Fatal("only a test that runs apart can have a Docker of its own")
	}
	for _, program := range []string{"dockerd", "containerd", "runc", "iptables"} {
		if _, err := exec.LookPath(program); err != nil {
			Missing(t, "no %s: install Debian's docker.io and iptables: %v", program, err)
		}
	}
	d := &Own{Host: ownHost, t: t, dir: t.TempDir(), options: o, path: os.Getenv("PATH")}
	d.Root = filepath.Join(d.dir, "root")
	if o.Disk == 0 {
		d.options.Disk = 512 << 20
	}
	d.Configure(o.Config)
	if len(o.Programs) > 0 {
		d.programs()
	}
	if err := os.Mkdir(d.Root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", d.Root, "tmpfs", 0, fmt.Sprintf("mode=711,size=%d", d.options.Disk)); err != nil {
		t.Fatalf("the disk of Docker: %v", err)
	}
	t.Cleanup(d.end)
	t.Setenv("DOCKER_HOST", d.Host)
	d.Start()
	return d
}

// Configure writes another daemon.json, which holds from the next start on.
func (d *Own) Configure(config map[string]any) {
	d.t.Helper()
	if config == nil {
		config = make(map[string]any)
	}
	b, err := json.Marshal(config)
	if err == nil {
		err = os.WriteFile(d.config(), b, 0o600)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *Own) config() string { return filepath.Join(d.dir, "daemon.json") }
func (d *Own) log() string    { return filepath.Join(d.dir, "dockerd.log") }

// programs makes a folder of links to all programs that are on the PATH, but for
// those which the options replace.
func (d *Own) programs() {
	d.t.Helper()
	dir := filepath.Join(d.dir, "bin")
	if err := os.Mkdir(dir, 0o700); err != nil {
		d.t.Fatal(err)
	}
	linked := maps.Clone(d.options.Programs) // and those that stay away
	for _, from := range filepath.SplitList(d.path) {
		found, _ := os.ReadDir(from) // one that does not exist has none
		for _, f := range found {
			if _, again := linked[f.Name()]; again {
				continue
			}
			linked[f.Name()] = ""
			if err := os.Symlink(filepath.Join(from, f.Name()), filepath.Join(dir, f.Name())); err != nil {
				d.t.Fatal(err)
			}
		}
	}
	for name, script := range d.options.Programs {
		if script == "" {
			continue
		}
		//nolint:gosec // it is to be executed
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			d.t.Fatal(err)
		}
	}
	d.path = dir
}

// Start starts it and returns once it answers.
func (d *Own) Start() {
	d.t.Helper()
	if d.process != nil {
		d.t.Fatal("Docker runs already")
	}
	// A daemon that was killed leaves its number behind, which another process
	// may have by now.
	if err := os.Remove(ownPID); err != nil && !os.IsNotExist(err) {
		d.t.Fatal(err)
	}
	log, err := os.OpenFile(d.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	//nolint:noctx // it ends by Stop, Kill, or at the end of the test
	cmd := exec.Command("dockerd", "--host", d.Host, "--data-root", d.Root, "--config-file", d.config(), "--pidfile", ownPID)
	cmd.Env = append(append(os.Environ(), "PATH="+d.path), d.options.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	// Signals to the tests' process group are not for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.process, d.ended = cmd.Process, make(chan struct{})
	go func(ended chan struct{}) {
		_ = cmd.Wait()
		close(ended)
	}(d.ended)
	api, err := client.New(client.WithHost(d.Host))
	if err != nil {
		d.t.Fatal(err)
	}
	defer api.Close()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		if _, err := api.Ping(d.t.Context(), client.PingOptions{}); err == nil {
			return
		}
		select {
		case <-look.C:
		case <-d.ended:
			d.t.Fatalf("Docker ended:\n%s", d.said())
		case <-d.t.Context().Done():
			d.t.Fatal("Docker does not answer")
		}
	}
}

// Stop has it end as the system's services do. Without live-restore in its
// configuration its containers end, too.
func (d *Own) Stop() { d.t.Helper(); d.signal(syscall.SIGTERM) }

// Kill ends it at once, like `kill -9`. Its containers go on until the next one
// starts.
func (d *Own) Kill() { d.t.Helper(); d.signal(syscall.SIGKILL) }

// Restart is Stop and Start.
func (d *Own) Restart() {
	d.t.Helper()
	d.Stop()
	d.Start()
}

func (d *Own) signal(s syscall.Signal) {
	d.t.Helper()
	if d.process == nil {
		d.t.Fatal("Docker does not run")
	}
	_ = d.process.Signal(s) // it may have ended
	select {
	case <-d.ended:
	case <-time.After(stopLimit):
		d.t.Errorf("Docker does not end:\n%s", d.said())
		_ = d.process.Kill()
		<-d.ended
	}
	d.process = nil
}

// end ends it for good.
func (d *Own) end() {
	if d.process != nil {
		d.Stop()
	}
	if d.t.Failed() {
		d.t.Logf("Docker's log:\n%s", d.said())
	}
	// What is below it, as of a daemon that was killed, goes with it.
	if err := syscall.Unmount(d.Root, syscall.MNT_DETACH); err != nil {
		d.t.Errorf("unmounting the disk of Docker: %v", err)
	}
	forget(d.Host)
}

// said is the end of its log.
func (d *Own) said() string {
	b, err := os.ReadFile(d.log())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// Fill fills its disk but for so many bytes. What is filled already is freed
// before.
func (d *Own) Fill(leave int64) {
	d.t.Helper()
	d.Free()
	var disk syscall.Statfs_t
	if err := syscall.Statfs(d.Root, &disk); err != nil {
		d.t.Fatal(err)
	}
	f, err := os.Create(d.filler())
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	if n := int64(disk.Bavail)*disk.Bsize - leave; n > 0 {
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, n); err != nil {
			d.t.Fatalf("filling Docker's disk with %d bytes: %v", n, err)
		}
	}
}

// Free undoes Fill.
func (d *Own) Free() {
	d.t.Helper()
	if err := os.Remove(d.filler()); err != nil && !os.IsNotExist(err) {
		d.t.Fatal(err)
	}
}

func (d *Own) filler() string { return filepath.Join(d.Root, "filler") }
