// Package driver is for asking a GPU's driver, which may never answer: a call
// into a driver that hangs cannot be cancelled, and a program that waits for one
// cannot even be killed.
package driver

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Calls makes calls that may never come back, one at a time. Whoever makes one
// waits for it as long as they like; the call itself goes on behind them, and
// nobody else's begins before it is over. So a driver that hangs costs one
// goroutine, however often it is asked.
type Calls struct {
	turn  chan struct{} // holds one element while a call is under way
	began atomic.Int64  // when that call began, in Unix nanoseconds; 0: none is under way
}

// NewCalls makes Calls.
func NewCalls() *Calls { return &Calls{turn: make(chan struct{}, 1)} }

// Do makes a call when those before it are over, and returns nil when it has come
// back. Otherwise ctx has ended, and the error says whether the call was made: if
// it was, it is still under way and must touch nothing that its caller touches.
func (c *Calls) Do(ctx context.Context, call func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return c.hangs(ctx)
	}
	c.began.Store(time.Now().UnixNano())
	done := make(chan struct{})
	go func() {
		defer func() {
			c.began.Store(0)
			<-c.turn
			close(done)
		}()
		call()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return c.hangs(ctx)
	}
}

// hangs is the error of whoever waited in vain.
func (c *Calls) hangs(ctx context.Context) error {
	began := c.began.Load()
	if began == 0 { // over at this very moment
		return fmt.Errorf("the driver answered too late: %w", ctx.Err())
	}
	return fmt.Errorf("the driver has not answered for %v; if nvidia-smi hangs, too, restart the machine: %w",
		time.Since(time.Unix(0, began)).Round(time.Millisecond), ctx.Err())
}
