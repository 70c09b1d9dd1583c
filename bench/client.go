// This file owns the clients of the load: they send requests and look at the
// answers, at as little cost as may be.

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// client sends requests, one after the other.
type client interface {
	// do sends one and reads its answer to the end. first is when the first byte of
	// the answer's body was there.
	do(s *shot) (first, whole time.Duration, err error)
	close()
}

// shot is a request that is sent again and again.
type shot struct {
	body   []byte
	stream string // the value of streamHeader; empty: none
	events int    // that the answer must have; 0: it is no stream
}

const chatPath = "/v1/chat/completions"

var errAnswer = errors.New("an answer is not as it should be")

// plainClient speaks HTTP/1.1 over one connection, which it keeps.
type plainClient struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
	of      *shot
	host    string
	buffer  []byte
}

// dialPlain connects to a URL's host, with TLS if its scheme says so.
func dialPlain(u *url.URL, secure *tls.Config) (client, error) {
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "https" {
		config := secure.Clone()
		config.ServerName, config.NextProtos = u.Hostname(), []string{"http/1.1"}
		conn = tls.Client(conn, config)
	}
	return &plainClient{conn: conn, in: bufio.NewReaderSize(conn, 16<<10), host: u.Host, buffer: make([]byte, 16<<10)}, nil
}

func (c *plainClient) do(s *shot) (first, whole time.Duration, err error) {
	if c.of != s {
		c.request, c.of = c.write(s), s
	}
	began := time.Now()
	if _, err := c.conn.Write(c.request); err != nil {
		return 0, 0, err
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, 0, err
	}
	first, err = read(res, s, began, c.buffer)
	return first, time.Since(began), err
}

func (c *plainClient) write(s *shot) []byte {
	var b bytes.Buffer
	b.WriteString("POST " + chatPath + " HTTP/1.1\r\nHost: " + c.host +
		"\r\nContent-Type: application/json\r\nUser-Agent: bench\r\nContent-Length: " + strconv.Itoa(len(s.body)) + "\r\n")
	if s.stream != "" {
		b.WriteString(streamHeader + ": " + s.stream + "\r\n")
	}
	b.WriteString("\r\n")
	b.Write(s.body)
	return b.Bytes()
}

func (c *plainClient) close() { _ = c.conn.Close() }

// read reads an answer to the end, and says when its body began.
func read(res *http.Response, s *shot, began time.Time, buffer []byte) (first time.Duration, err error) {
	defer res.Body.Close()
	var size, events int
	var last byte
	for {
		n, err := res.Body.Read(buffer)
		if n > 0 {
			if size == 0 {
				first = time.Since(began)
			}
			size += n
			if s.events > 0 {
				events += bytes.Count(buffer[:n], []byte("\n\n"))
				if last == '\n' && buffer[0] == '\n' {
					events++
				}
			}
			last = buffer[n-1]
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	if res.StatusCode != http.StatusOK || events != s.events || s.events == 0 && size != len(chatAnswer) {
		return 0, fmt.Errorf("%w: status %d, %d bytes, %d events: %.200q", errAnswer, res.StatusCode, size, events, buffer)
	}
	return first, nil
}

// http2Client speaks HTTP/2, over connections that all clients of a run share.
type http2Client struct {
	http   *http.Client
	url    string
	buffer []byte
}

// newHTTP2 makes the transport that the clients of a run share: over TLS, or over
// plain TCP for a URL whose scheme is http.
func newHTTP2(secure *tls.Config) *http.Transport {
	t := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: secure, DisableCompression: true}
	t.Protocols.SetHTTP2(true)
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

func newHTTP2Client(u *url.URL, t *http.Transport) client {
	return &http2Client{http: &http.Client{Transport: t}, url: u.String() + chatPath, buffer: make([]byte, 16<<10)}
}

func (c *http2Client) do(s *shot) (first, whole time.Duration, err error) {
	req, err := newRequest(context.Background(), c.url, s)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	res, err := c.http.Do(req)
	if err != nil {
		return 0, 0, err
	}
	first, err = read(res, s, began, c.buffer)
	return first, time.Since(began), err
}

func (*http2Client) close() {}

func newRequest(ctx context.Context, to string, s *shot) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(s.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "bench")
	if s.stream != "" {
		req.Header.Set(streamHeader, s.stream)
	}
	return req, nil
}

// ask sends a request of its own, and returns when the first byte of the answer's body
// is there. The caller closes the body.
func ask(to string, t *http.Transport, s *shot) (*http.Response, time.Duration, error) {
	req, err := newRequest(context.Background(), to+chatPath, s)
	if err != nil {
		return nil, 0, err
	}
	began := time.Now()
	res, err := t.RoundTrip(req)
	if err != nil {
		return nil, 0, err
	}
	var one [1]byte
	if _, err := io.ReadFull(res.Body, one[:]); err != nil {
		_ = res.Body.Close()
		return nil, 0, err
	}
	took := time.Since(began)
	if res.StatusCode != http.StatusOK {
		rest, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		return nil, 0, fmt.Errorf("%w: status %d: %c%.300s", errAnswer, res.StatusCode, one[0], rest)
	}
	return res, took, nil
}
