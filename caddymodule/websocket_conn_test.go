package caddymodule

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// lingering is a connection whose reads take a while to notice its end.
type lingering struct {
	net.Conn
	ended chan struct{}
	over  bool // a read has noticed
}

func (l *lingering) Read([]byte) (int, error) {
	<-l.ended
	time.Sleep(time.Second) // of the bubble's time
	l.over = true
	return 0, net.ErrClosed
}

func (l *lingering) Close() error {
	close(l.ended)
	return nil
}

// Whoever has closed a WebSocket's connection may look at what was counted on it:
// nobody uses it any more.
func TestClosedSocketIsAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lingering{ended: make(chan struct{})}
		c := &wholeConn{Conn: l, in: l}
		go func() { _, _ = c.Read(nil) }()
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if !l.over {
			t.Error("it is closed, and a read is still under way")
		}
		if _, err := c.Write(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("written to after its end: %v", err)
		}
	})
}
