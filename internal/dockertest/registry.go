package dockertest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Registry runs a registry of images on a loopback port until the test ends, and
// returns its address. It needs the program docker-registry, of Debian's package
// of that name. A locked one refuses everybody.
func Registry(t testing.TB, locked bool) string {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		Missing(t, "no docker-registry: install Debian's package of that name: %v", err)
	}
	dir := t.TempDir()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	_ = ln.Close()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n", dir, address)
	if locked {
		users := filepath.Join(dir, "users")
		if err := os.WriteFile(users, []byte("nobody:$2y$05$invalid\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		config += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", users)
	}
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), program, "serve", file)
	var said bytes.Buffer // valid once it has ended
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = c.Close()
			return address
		}
		select {
		case <-look.C:
		case <-ended:
			t.Fatalf("the registry ended: %s", &said)
		}
	}
}
