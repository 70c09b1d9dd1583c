// This file owns connections whose other end is a script: it answers each request
// with the same bytes, without a goroutine and without the kernel.

package main

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// scriptedConn is a connection to a server that answers at once: 200 and the answer
// of the stand-in to a POST, 200 and nothing to anything else.
type scriptedConn struct {
	mu     sync.Mutex
	some   sync.Cond
	head   []byte // of the request that is being written, until it is whole
	rest   int    // bytes of its body that are still to come
	post   bool
	answer []byte // still to be read
	closed bool
}

func newScriptedConn() *scriptedConn {
	c := new(scriptedConn)
	c.some.L = &c.mu
	return c
}

var (
	scriptedAnswer  = httpAnswer(chatAnswer)
	scriptedNothing = httpAnswer(nil)
)

func httpAnswer(body []byte) []byte {
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	return append([]byte(head), body...)
}

// Write implements net.Conn: the script reads the request.
func (c *scriptedConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(b)
	for len(b) > 0 {
		if c.rest > 0 {
			part := min(c.rest, len(b))
			b, c.rest = b[part:], c.rest-part
		} else {
			had := len(c.head)
			c.head = append(c.head, b...)
			end := bytes.Index(c.head, []byte("\r\n\r\n"))
			if end < 0 {
				return n, nil
			}
			end += 4
			c.post, c.rest = bytes.HasPrefix(c.head, []byte("POST ")), contentLength(c.head[:end])
			c.head = c.head[:0]
			b = b[end-had:]
		}
		if c.rest == 0 {
			c.answer = scriptedNothing
			if c.post {
				c.answer = scriptedAnswer
			}
			c.some.Signal()
		}
	}
	return n, nil
}

// contentLength finds the length of a request's body in its head.
func contentLength(head []byte) int {
	_, rest, found := bytes.Cut(head, []byte("Content-Length: "))
	if !found {
		return 0
	}
	digits, _, _ := bytes.Cut(rest, []byte("\r\n"))
	n, _ := strconv.Atoi(string(digits)) // net/http wrote it
	return n
}

// Read implements net.Conn: it waits for the script's answer.
func (c *scriptedConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.answer) == 0 {
		if c.closed {
			return 0, io.EOF
		}
		c.some.Wait()
	}
	n := copy(b, c.answer)
	c.answer = c.answer[n:]
	return n, nil
}

// Close implements net.Conn.
func (c *scriptedConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.some.Broadcast()
	return nil
}

// LocalAddr implements net.Conn.
func (*scriptedConn) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// RemoteAddr implements net.Conn.
func (*scriptedConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// SetDeadline implements net.Conn. The script is never late.
func (*scriptedConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (*scriptedConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (*scriptedConn) SetWriteDeadline(time.Time) error { return nil }
