package vramman

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file is about what workers do for sleep: they tell the server, and wait.

func (w *workers) sleepServer(i *Instance) {
	s := i.spec.Server.(server.Sleeper) // the owner has looked
	w.nap(i, s.SleepRequest(), sleepTimeout, func(err error) event { return sleptEvent{i, err} })
}

func (w *workers) wakeServer(i *Instance) {
	s := i.spec.Server.(server.Sleeper)
	w.nap(i, s.WakeRequest(), wakeTimeout, func(err error) event { return wokenEvent{i, err} })
}

// nap asks a server for what takes it a while.
func (w *workers) nap(i *Instance, ask *http.Request, within time.Duration, over func(error) event) {
	transport, authorization, done := i.transport, i.authorization, i.running.Done()
	w.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		go func() {
			select {
			case <-done: // it will never answer
				cancel()
			case <-ctx.Done():
			}
		}()
		req := ask.Clone(ctx)
		req.Header.Set("Authorization", authorization)
		w.manager.post(over(answered200(transport, req)))
	})
}

// answered200 sends a request and wants 200 for it.
func answered200(t http.RoundTripper, req *http.Request) error {
	resp, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // so that the connection can serve again
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered with status %d", req.URL.Path, resp.StatusCode)
	}
	return nil
}
