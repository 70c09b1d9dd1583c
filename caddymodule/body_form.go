// This file owns the bodies that hold files: multipart forms, which are kept in
// memory while they are small, and on disk beyond that.

package caddymodule

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
)

// formMemory is how much of a form is kept in memory, in bytes; a larger one is
// on disk as a whole.
const formMemory = 1 << 20

// readForm reads a whole form. The error is an [openai.Error], errClientLeft, or
// the disk's.
func (l bodyLimits) readForm(w http.ResponseWriter, r *http.Request, boundary string) (*requestBody, openai.Form, error) {
	if r.ContentLength > l.max {
		return nil, openai.Form{}, l.tooLarge()
	}
	s := spool{body: &requestBody{budget: l.budget}, memory: l.memory}
	src := bodySource{r: http.MaxBytesReader(w, r.Body, l.max)}
	form, err := openai.ScanForm(&src, &s, boundary)
	if err != nil {
		s.body.drop()
		if src.err != nil {
			err = l.readError(src.err)
		}
		return nil, openai.Form{}, err
	}
	if s.body.disk != nil {
		s.body.disk.size = form.Size
	}
	return s.body, form, nil
}

// bodySource reads a request's body and remembers what went wrong, which tells
// the client's failures from the disk's.
type bodySource struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (s *bodySource) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// spool is the way into a body.
type spool struct {
	body   *requestBody
	memory int64 // of all bodies in the budget, in bytes
}

// Write implements io.Writer. The error is an [openai.Error] or the disk's.
func (s *spool) Write(p []byte) (int, error) {
	b := s.body
	need := int64(len(b.bytes) + len(p))
	if b.disk == nil && need > formMemory {
		if err := b.spill(); err != nil {
			return 0, err
		}
	}
	if b.disk != nil {
		n, err := b.disk.file.Write(p)
		if err != nil {
			err = fmt.Errorf("keeping a request's body on disk: %w", err)
		}
		return n, err
	}
	if need > b.taken {
		if err := b.grow(min(max(4*b.taken, firstRead, need), formMemory), s.memory); err != nil {
			return 0, err
		}
	}
	b.bytes = append(b.bytes, p...)
	return len(p), nil
}

// spill moves a body from memory to the disk.
func (b *requestBody) spill() error {
	d, err := newDiskBody(b.bytes)
	if err != nil {
		return fmt.Errorf("keeping a request's body on disk: %w", err)
	}
	b.disk, b.bytes = d, nil
	b.budget.give(b.taken)
	b.taken = 0
	return nil
}

// rename puts the model's name into the form that the body is.
func (b *requestBody) rename(form *openai.Form, name string) error {
	if form.Model == name {
		return nil
	}
	if b.disk != nil {
		b.disk.form, b.disk.model = form, name
		_, b.disk.size = form.Named(b.disk.file, name)
		return nil
	}
	r, size := form.Named(bytes.NewReader(b.bytes), name)
	edited := make([]byte, size)
	if _, err := io.ReadFull(r, edited); err != nil {
		return fmt.Errorf("naming the model in a form: %w", err)
	}
	b.replace(edited)
	return nil
}

// diskBody is a body in a file that has no name any more where the system allows
// that, so that nothing is left behind. The file is closed by the last of its
// users: the request and the readers.
type diskBody struct {
	file  *os.File
	left  string // the file's name, if it still has one
	size  int64  // in bytes, as it is to be read
	users atomic.Int32

	// What changes when it is read; nil for nothing.
	form  *openai.Form
	model string
}

// newDiskBody makes a file that begins with text.
func newDiskBody(text []byte) (*diskBody, error) {
	f, err := os.CreateTemp("", "vllm-gateway-body-")
	if err != nil {
		return nil, err
	}
	d := &diskBody{file: f}
	d.users.Store(1)
	if err := os.Remove(f.Name()); err != nil {
		d.left = f.Name()
	}
	if _, err := f.Write(text); err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

// reader reads the body from its beginning. It is a user until it is closed.
func (d *diskBody) reader() *bodyReader {
	d.users.Add(1)
	r := &bodyReader{disk: d}
	if d.form != nil {
		r.more, _ = d.form.Named(d.file, d.model)
	} else {
		r.more = io.NewSectionReader(d.file, 0, d.size)
	}
	return r
}

// release ends a use.
func (d *diskBody) release() {
	if d.users.Add(-1) > 0 {
		return
	}
	_ = d.file.Close()
	if d.left != "" {
		_ = os.Remove(d.left) //nolint:gosec // G703: os.CreateTemp chose the name
	}
}

// Interface guards
var (
	_ io.Reader = (*bodySource)(nil)
	_ io.Writer = (*spool)(nil)
)
