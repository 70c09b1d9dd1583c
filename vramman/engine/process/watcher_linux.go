// This file owns the watcher: this same program, started once more for each
// server, to stand between the gateway and the server and to end the server
// when the gateway is gone.
//
// Why a process of its own. A process that is killed runs no code, so somebody
// else must act on its death. The kernel's own means reach too short: a parent
// death signal (PR_SET_PDEATHSIG) goes to the direct child only, and vLLM's
// engine and workers are grandchildren; process groups and sessions are not
// ended with their leader; cgroups and PID namespaces would do it, but need
// rights that a gateway need not have.
//
// How it knows. The watcher holds one end of a socket whose other end only the
// gateway has. The kernel closes that end with the gateway, whatever ended it,
// and the watcher reads the end of the stream.
//
// How it ends the server. The watcher is a child subreaper: a process whose
// parent dies becomes the watcher's child, also one that left its group and
// session. So it kills the server's process group and its own children, and as
// long as it has children it waits for one and kills anew; when it has none,
// nothing is left. A child's number is never reused before the watcher reaped
// it, so that no stranger is hit.
//
// When the watcher itself is killed, the server dies by its parent death
// signal, and the gateway ends the rest by the session (child_linux.go). Only
// if both are killed in the same moment can something that the server started
// stay, if it does not notice the server's death by itself, as vLLM's do.
//
// How it comes to be. The program is executed anew with a first argument that
// no shell would give it, and this package's init takes over before main: a
// plain start pays one comparison of strings. Nothing marks it in the
// environment, so there is nothing to leak to the server. A watcher that is all
// of Caddy takes about 80 ms to come up and 10 MB of memory of its own.

package process

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/signal"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

const (
	// watcherName is the watcher's argv[0]; the server's arguments follow it.
	watcherName = "vllm-gateway-watcher"
	// watcherLine is the file descriptor of the watcher's end of the line.
	watcherLine = 3
)

// What the gateway tells the watcher, one byte each.
const (
	orderTerminate = 't' // ask the server to end
	orderKill      = 'k' // kill everything
)

// report is what the watcher tells the gateway, as JSON values one after the
// other: an empty one when the server runs, or why it does not; and last, when
// everything is gone, how the server ended.
type report struct {
	Error string       `json:"error,omitempty"`
	Exit  *engine.Exit `json:"exit,omitempty"`
}

func init() {
	if len(os.Args) > 1 && os.Args[0] == watcherName {
		os.Exit(watch(os.Args[1:]))
	}
}

// watcher is the state of the watcher's process.
type watcher struct {
	mu      sync.Mutex // held while reaping and while killing, so that no number is stale
	server  int        // the server's process number, also its group's
	reaped  bool       // the server is gone
	killing bool       // everything is to end
	spared  bool       // nobody here killed the server
	exit    engine.Exit
}

// watch runs the server with the given arguments until it and all it started
// are gone, and returns the watcher's own exit status.
func watch(args []string) int {
	// The parent death signal comes when the thread that forked ends, so that
	// must be the one that stays until the end: the main one, as in every init.
	runtime.LockOSThread()
	// Nothing that the gateway held open by mistake gets to the server.
	if unix.CloseRange(watcherLine, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) != nil {
		unix.CloseOnExec(watcherLine)
	}
	// A service manager that stops the gateway signals all processes at once.
	// The server is told by the gateway, so the watcher stays to the end.
	// Caught, not ignored: the server would inherit that it ignores them.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)

	line := os.NewFile(watcherLine, "gateway")
	reports := json.NewEncoder(line)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		_ = reports.Encode(report{Error: "becoming the reaper of the server's processes: " + err.Error()})
		return 1
	}
	ooms := oomKills()
	p, err := os.StartProcess(args[0], args, &os.ProcAttr{ //nolint:gosec // the gateway says what to start; that is what a watcher is for
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL},
	})
	if err != nil {
		// The path stays out: the gateway names the program.
		if pe, ok := errors.AsType[*os.PathError](err); ok {
			err = pe.Err
		}
		_ = reports.Encode(report{Error: "executing the server's program: " + err.Error()})
		return 1
	}
	w := &watcher{server: p.Pid, spared: true}
	_ = reports.Encode(report{}) // if nobody reads it, obey sees that too
	go w.obey(line)
	w.reap()
	w.exit.OOM = w.spared && w.exit.Signal == unix.SIGKILL.String() && oomKills() > ooms
	_ = reports.Encode(report{Exit: &w.exit})
	return 0
}

// obey does what the gateway says, until the gateway is gone; then it kills.
func (w *watcher) obey(line *os.File) {
	var order [1]byte
	for {
		if n, err := line.Read(order[:]); n == 0 || err != nil {
			w.kill()
			return
		}
		switch order[0] {
		case orderTerminate:
			w.terminate()
		case orderKill:
			w.kill()
		}
	}
}

// reap waits until the watcher has no child left, which is when nothing that
// the server started is left either.
func (w *watcher) reap() {
	for {
		// Look first and take with the lock held: see watcher.mu.
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		w.collect()
	}
}

// collect takes note of the children that have ended. With the server the rest
// ends too: without it nobody needs them, and they hold its VRAM.
func (w *watcher) collect() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if pid <= 0 || err != nil {
			break
		}
		if pid != w.server || w.reaped {
			continue
		}
		w.reaped, w.spared = true, !w.killing
		w.killing = true
		if w.exit = (engine.Exit{Code: status.ExitStatus()}); status.Signaled() {
			w.exit = engine.Exit{Code: -1, Signal: status.Signal().String()}
		}
	}
	if w.killing {
		w.killAll()
	}
}

// terminate asks the server to end.
func (w *watcher) terminate() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.reaped {
		_ = unix.Kill(w.server, unix.SIGTERM)
	}
}

// kill ends everything; reap sees it through.
func (w *watcher) kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.killing = true
	w.killAll()
}

// killAll kills the server's group and the watcher's own children. What these
// leave behind becomes the watcher's child and is killed in the next round.
// It is called with mu held.
func (w *watcher) killAll() {
	if !w.reaped {
		_ = unix.Kill(-w.server, unix.SIGKILL)
	}
	all, _ := processes() // without /proc the group is all that can be reached
	me := os.Getpid()
	for _, p := range all {
		if p.parent == me {
			_ = unix.Kill(p.pid, unix.SIGKILL)
		}
	}
}
