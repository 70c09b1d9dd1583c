// This file owns the parent's side of those processes: starting, asking, ending.

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// child is a process of the suite.
type child struct {
	role    string
	cmd     *exec.Cmd
	in      io.WriteCloser
	orders  *json.Encoder
	replies *json.Decoder
	errors  *tail
	first   reply
}

// startChild starts a process in a role, on some processors only if any are named,
// and has it begin. Its own files go to a folder below dir.
func startChild(dir, role string, cpus []int, o order) (*child, error) {
	home, err := os.MkdirTemp(dir, role)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	c := &child{role: role, cmd: exec.Command(self, "serve", role), errors: new(tail)}
	c.cmd.Stderr = c.errors
	c.cmd.Dir = home
	// What Caddy keeps stays below the folder of this run.
	c.cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+filepath.Join(home, "data"), "XDG_CONFIG_HOME="+filepath.Join(home, "config"))
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.orders, c.replies = json.NewEncoder(c.in), json.NewDecoder(out)
	if err := pinned(cpus, c.cmd.Start); err != nil {
		return nil, fmt.Errorf("starting the %s: %w", role, err)
	}
	if c.first, err = c.say(o); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// say sends an order and waits for its reply.
func (c *child) say(o order) (reply, error) {
	if err := c.orders.Encode(o); err != nil {
		return reply{}, fmt.Errorf("the %s: %w%s", c.role, err, c.errors)
	}
	var r reply
	if err := c.replies.Decode(&r); err != nil {
		return reply{}, fmt.Errorf("the %s: %w%s", c.role, err, c.errors)
	}
	if r.Error != "" {
		return r, fmt.Errorf("the %s: %w%s", c.role, errors.New(r.Error), c.errors)
	}
	return r, nil
}

// memory is what the process uses after a garbage collection, and what it holds of
// the machine's memory then.
func (c *child) memory() (reply, error) {
	r, err := c.say(order{Ask: "memory"})
	if err != nil {
		return r, err
	}
	r.Resident, err = resident(c.pid())
	return r, err
}

// profile has the process write a profile to a folder, named after what it is of.
func (c *child) profile(folder, kind, of string) error {
	name := strings.Map(func(r rune) rune {
		if r == ' ' || r == ',' {
			return '-'
		}
		return r
	}, fmt.Sprintf("%s-%s-%s.pprof", kind, c.role, of))
	_, err := c.say(order{Ask: "profile", File: filepath.Join(folder, name)})
	return err
}

func (c *child) counts() (reply, error) { return c.say(order{Ask: "counts"}) }

func (c *child) pid() int { return c.cmd.Process.Pid }

// stopTimeout is how long a process may take to end by itself.
const stopTimeout = 5 * time.Second

// stop ends the process.
func (c *child) stop() {
	_ = c.in.Close()
	timer := time.AfterFunc(stopTimeout, func() { _ = c.cmd.Process.Kill() })
	defer timer.Stop()
	_ = c.cmd.Wait()
}

// tail keeps the end of what a process says of its troubles.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailBytes = 2 << 10

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - tailBytes; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}

// String is what it said, as the end of an error.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(bytes.TrimSpace(t.text)) == 0 {
		return ""
	}
	return "; it said: " + string(bytes.TrimSpace(t.text))
}

// eventually waits until something holds; what says what it is.
func eventually(what string, within time.Duration, holds func() (bool, error)) error {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(within); ; <-look.C {
		ok, err := holds()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it did not happen within %v: %s", within, what)
		}
	}
}
