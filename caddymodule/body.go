// This file owns request bodies: reading them into memory within their limits,
// and sending them again for each attempt. Those with files: body_form.go.

package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
)

// firstRead is how many bytes are set aside for a body before any of it has
// come: what its length says, but no more than this, so that a client cannot
// take memory by announcing a body that it never sends.
const firstRead = 64 << 10

// requestBody is a request's body in memory, counted in a budget until it is
// dropped, or on disk. One goroutine owns it; its readers may be anywhere.
type requestBody struct {
	bytes  []byte
	disk   *diskBody // nil for a body in memory
	budget *byteBudget
	taken  int64
	// handed is the reader that later handlers see as the request's body.
	handed *bodyReader
}

// bodyLimits bound the bodies that are read.
type bodyLimits struct {
	max    int64       // of one body, in bytes
	memory int64       // of all bodies in the budget, in bytes
	budget *byteBudget // where they are counted
}

// read reads a whole request body. The error is an [openai.Error] or
// errClientLeft.
func (l bodyLimits) read(w http.ResponseWriter, r *http.Request) (*requestBody, error) {
	if r.ContentLength > l.max {
		return nil, l.tooLarge()
	}
	b := &requestBody{budget: l.budget}
	if err := b.fill(w, r, l); err != nil {
		b.drop()
		return nil, err
	}
	return b, nil
}

func (b *requestBody) fill(w http.ResponseWriter, r *http.Request, l bodyLimits) error {
	most := l.max
	if r.ContentLength >= 0 {
		most = r.ContentLength
	}
	src := http.MaxBytesReader(w, r.Body, l.max)
	for {
		if len(b.bytes) == cap(b.bytes) {
			if int64(len(b.bytes)) > most { // a handler before has put another body there
				most = l.max
			}
			if err := b.grow(min(max(4*b.taken, firstRead), most), l.memory); err != nil {
				return err
			}
		}
		n, err := src.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return l.readError(err)
		}
	}
}

// grow makes room for so many bytes, and one more, so that the end of the body is
// read too: only then does the HTTP/1.1 server watch for the client's leaving.
func (b *requestBody) grow(room, memory int64) error {
	if !b.budget.take(room-b.taken, memory) {
		return openai.Error{
			Status:     http.StatusServiceUnavailable,
			Code:       openai.CodeBodyMemory,
			Message:    "the gateway holds too many request bodies at present; try again in a moment",
			RetryAfter: minRetryAfter,
		}
	}
	b.taken = room
	b.bytes = append(make([]byte, 0, room+1), b.bytes...)
	return nil
}

func (l bodyLimits) tooLarge() error {
	return openai.Error{
		Status:  http.StatusRequestEntityTooLarge,
		Code:    openai.CodeBodyTooLarge,
		Message: fmt.Sprintf("the request body is larger than %d bytes, the most that is accepted here", l.max),
		NoRetry: true,
	}
}

func (l bodyLimits) readError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return l.tooLarge()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return openai.Error{
			Status:  http.StatusRequestTimeout,
			Code:    codeBodyTimeout,
			Message: "the request body did not arrive in time",
		}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", errClientLeft, err)
	}
	return openai.Error{
		Status:  http.StatusBadRequest,
		Code:    openai.CodeInvalidBody,
		Message: "the request body could not be read to its end",
	}
}

// len is how many bytes the body has.
func (b *requestBody) len() int {
	if b.disk != nil {
		return int(b.disk.size)
	}
	return len(b.bytes)
}

// replace puts an edited body in the place of the one that was read.
func (b *requestBody) replace(edited []byte) { b.bytes = edited }

// reader returns the body for one attempt, from its beginning.
func (b *requestBody) reader() *bodyReader {
	if b.disk != nil {
		return b.disk.reader()
	}
	return &bodyReader{rest: b.bytes}
}

// hand returns the body for the handlers that come after admission.
func (b *requestBody) hand() io.ReadCloser {
	b.handed = b.reader()
	return b.handed
}

// drop gives the body's memory back. What is being sent at the moment is still
// sent. Dropping twice does nothing.
func (b *requestBody) drop() {
	b.bytes = nil
	if b.handed != nil {
		_ = b.handed.Close()
	}
	if b.disk != nil {
		b.disk.release()
		b.disk = nil
	}
	b.budget.give(b.taken)
	b.taken = 0
}

// bodyReader reads a body once. It forgets the bytes when it is closed, since a
// transport keeps it for as long as the answer is read.
type bodyReader struct {
	mu   sync.Mutex // a transport may close it while it reads
	rest []byte
	more io.Reader // after rest; nil for nothing
	disk *diskBody // what more reads, until it is closed
}

// Read implements io.Reader.
func (r *bodyReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.rest) == 0 {
		r.rest = nil
		if r.more != nil {
			return r.more.Read(p)
		}
		return 0, io.EOF
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (r *bodyReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rest, r.more = nil, nil
	if r.disk != nil {
		r.disk.release()
		r.disk = nil
	}
	return nil
}

// Interface guards
var _ io.ReadCloser = (*bodyReader)(nil)
