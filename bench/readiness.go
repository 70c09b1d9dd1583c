// This file owns the moment at which a simulated server is ready, as somebody sees it
// who is not the gateway.

package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// lookEvery is how often a server is looked for, and how exact its readiness is known.
const lookEvery = time.Millisecond

// readiness tells when the next server of a model that nobody serves yet accepts
// connections, which the stand-in does when it is ready and not before. The channel
// closes without a word when the context ends.
func readiness(ctx context.Context, model string) <-chan time.Time {
	ready := make(chan time.Time, 1)
	go func() {
		defer close(ready)
		look := time.NewTicker(lookEvery)
		defer look.Stop()
		port := ""
		for tick := 0; ; tick++ {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
			}
			if port == "" {
				if tick%10 == 0 { // all of /proc is much to read
					port = portOf(model)
				}
				continue
			}
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
			if err == nil {
				_ = conn.Close()
				ready <- time.Now()
				return
			}
		}
	}()
	return ready
}

// portOf is the port that the server of a model was told to listen on; empty: there is
// no such server yet.
func portOf(model string) string {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(text, []byte("vllm-sim")) {
			continue
		}
		args := bytes.Split(text, []byte{0})
		is := func(word string) func([]byte) bool {
			return func(arg []byte) bool { return string(arg) == word }
		}
		name, port := slices.IndexFunc(args, is("--served-model-name")), slices.IndexFunc(args, is("--port"))
		if name >= 0 && port >= 0 && name+1 < len(args) && port+1 < len(args) && string(args[name+1]) == model {
			return string(args[port+1])
		}
	}
	return ""
}
