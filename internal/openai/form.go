// This file owns what the gateway wants to know of a multipart form: which model
// it names, whether it asks for a stream, and where the model's name stands. The
// form is read once, through a window; its files are never held.

package openai

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf8"
)

const (
	// formWindow is how much of a form is in view at a time, in bytes.
	formWindow = 16 << 10
	// maxPartHeaders bounds the headers of one part, in bytes.
	maxPartHeaders = 8 << 10
	// maxFormParts is how many files, and how many other fields, Starlette takes.
	maxFormParts = 1000
	// maxFormField bounds the value of a field that the gateway reads, in bytes.
	maxFormField = 1 << 10
)

// Form is what ScanForm found in a form.
type Form struct {
	// Model is the model that the form names. It is empty when the field is absent
	// or "", both of which vLLM reads as the model it serves.
	Model string
	// Stream is true when the field stream says so in one of the words that vLLM
	// takes for true.
	Stream bool
	// Size is how long the form is, in bytes.
	Size int64

	boundary   string
	start, end int64 // where the model's name stands, if named
	named      bool  // the form has the field model
	streamed   bool  // the form has the field stream
}

// ScanForm reads src, a multipart form with the boundary, to its end, and writes
// all that it reads to tee (nil for nowhere) as it comes, so that the caller can
// send it on. It holds a window of the form, whatever the form's size.
//
// Forms are read strictly, because a server that reads one in another way could
// find another model in it: no text stands before the first boundary and nothing
// but line breaks after the last; lines end in CR LF; a boundary occurs nowhere
// else; each part has one Content-Disposition that names its field, once and in
// one piece; nothing is encoded. What is accepted means the same to
// mime/multipart, which the tests hold it against, and to python-multipart, old
// and new, which is what vLLM reads forms with.
//
// An error is src's or tee's own, as it is, or an Error with status 400: the form
// is not such a form or is cut short, has more than 1000 parts, or the field
// model or stream occurs twice, is a file, or is longer than 1 KiB. After an error
// src may not have been read to its end.
func ScanForm(src io.Reader, tee io.Writer, boundary string) (Form, error) {
	if tee == nil {
		tee = io.Discard
	}
	window := formWindows.Get().(*[formWindow]byte)
	defer formWindows.Put(window)
	s := formScanner{src: src, tee: tee, window: window[:], delimiter: []byte("\r\n--" + boundary)}
	f := Form{boundary: boundary}
	if err := s.scan(&f); err != nil {
		return Form{}, err
	}
	return f, nil
}

var formWindows = sync.Pool{New: func() any { return new([formWindow]byte) }}

// Named returns the form with the model called name, whether it had the field or
// not, and how long that is. The form itself, of which f is what ScanForm found,
// is body. The name must have no line breaks.
func (f *Form) Named(body io.ReaderAt, name string) (form io.Reader, size int64) {
	text := name
	if !f.named {
		text = "--" + f.boundary + "\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n" + name + "\r\n"
	}
	return io.MultiReader(
		io.NewSectionReader(body, 0, f.start),
		strings.NewReader(text),
		io.NewSectionReader(body, f.end, f.Size-f.end),
	), f.Size - (f.end - f.start) + int64(len(text))
}

// formScanner reads a form through a window.
type formScanner struct {
	src       io.Reader
	tee       io.Writer
	window    []byte
	at, until int   // what has been read, but not looked at yet
	read      int64 // from src, in bytes
	ended     bool
	delimiter []byte // CR LF, two dashes, the boundary
}

// rest is what has been read, but not looked at yet.
func (s *formScanner) rest() []byte { return s.window[s.at:s.until] }

// offset is where in the form the rest begins.
func (s *formScanner) offset() int64 { return s.read - int64(s.until-s.at) }

// more makes the rest longer. It must be shorter than the window. False means
// that the form has ended.
func (s *formScanner) more() (bool, error) {
	s.until = copy(s.window, s.rest())
	s.at = 0
	for range 100 {
		if s.ended {
			return false, nil
		}
		n, err := s.src.Read(s.window[s.until:])
		if n > 0 {
			if _, err := s.tee.Write(s.window[s.until : s.until+n]); err != nil {
				return false, err
			}
			s.until += n
			s.read += int64(n)
		}
		if err == io.EOF {
			s.ended = true
		} else if err != nil {
			return false, err
		}
		if n > 0 {
			return true, nil
		}
	}
	return false, io.ErrNoProgress
}

// have makes the rest at least n bytes long, if the form is.
func (s *formScanner) have(n int) (bool, error) {
	for s.until-s.at < n {
		if ok, err := s.more(); !ok {
			return false, err
		}
	}
	return true, nil
}

// scan reads the form.
func (s *formScanner) scan(f *Form) error {
	begins, err := s.beginsWithBoundary()
	if err != nil {
		return err
	}
	if !begins {
		return notForm("it does not begin with its boundary")
	}
	s.at += len(s.delimiter) - 2
	for parts := 0; ; parts++ {
		if ok, err := s.have(2); !ok {
			return cutShort(err)
		}
		end := string(s.rest()[:2])
		s.at += 2
		if end == "--" {
			break
		}
		if end != "\r\n" {
			return notForm("its boundary occurs inside a part, or its lines do not end in CR LF")
		}
		if parts == maxFormParts {
			return notForm(fmt.Sprintf("it has more than %d parts", maxFormParts))
		}
		if err := s.scanPart(f); err != nil {
			return err
		}
	}
	return s.scanTail(f)
}

// beginsWithBoundary says whether the rest begins with the boundary and its
// dashes.
func (s *formScanner) beginsWithBoundary() (bool, error) {
	boundary := s.delimiter[2:]
	ok, err := s.have(len(boundary))
	return ok && bytes.HasPrefix(s.rest(), boundary), err
}

// scanPart reads a part and the delimiter after it.
func (s *formScanner) scanPart(f *Form) error {
	p, err := s.scanHeaders()
	if err != nil {
		return err
	}
	if p.field != "model" && p.field != "stream" {
		_, err := s.scanData(p.field, false)
		return err
	}
	if p.field == "model" && f.named || p.field == "stream" && f.streamed {
		return invalidBody(p.field, p.field+" occurs twice in the form")
	}
	if p.file {
		return invalidBody(p.field, p.field+" must be a plain field of the form, not a file")
	}
	start := s.offset()
	value, err := s.scanData(p.field, true)
	if err != nil {
		return err
	}
	if p.field == "stream" {
		f.streamed, f.Stream = true, isTrue(string(value))
		return nil
	}
	if !utf8.Valid(value) {
		return invalidBody("model", "model is not UTF-8")
	}
	f.named, f.Model = true, string(value)
	f.start, f.end = start, start+int64(len(value))
	return nil
}

// isTrue says whether vLLM takes the value of a form's field for true: the words
// are those of pydantic.
func isTrue(value string) bool {
	switch strings.ToLower(value) {
	case "true", "t", "yes", "y", "on", "1":
		return true
	}
	return false
}

// scanHeaders reads the headers of a part and the empty line after them.
func (s *formScanner) scanHeaders() (p part, err error) {
	for room := maxPartHeaders; ; {
		line, err := s.scanLine(room)
		if err != nil {
			return part{}, err
		}
		if len(line) == 0 {
			break
		}
		room -= len(line) + 2
		if err := p.addHeader(line); err != nil {
			return part{}, err
		}
	}
	if !p.disposed {
		return part{}, notForm("a part has no Content-Disposition")
	}
	return p, nil
}

// scanLine reads a line of at most room bytes. What it returns is good until the
// next read.
func (s *formScanner) scanLine(room int) ([]byte, error) {
	for {
		rest := s.rest()
		i := bytes.Index(rest, []byte("\r\n"))
		if i > room || i < 0 && len(rest) > room+1 {
			return nil, notForm(fmt.Sprintf("the headers of a part are longer than %d bytes", maxPartHeaders))
		}
		if i >= 0 {
			s.at += i + 2
			return rest[:i], nil
		}
		if ok, err := s.more(); !ok {
			return nil, cutShort(err)
		}
	}
}

// scanData reads the data of a part, which is the named field's, and the delimiter
// after it. It returns the data if keep is set.
func (s *formScanner) scanData(field string, keep bool) (value []byte, err error) {
	// Some readers take this for an empty part, others for data.
	if begins, err := s.beginsWithBoundary(); begins || err != nil {
		if err == nil {
			err = notForm("its boundary occurs inside a part")
		}
		return nil, err
	}
	for {
		rest := s.rest()
		i := bytes.Index(rest, s.delimiter)
		n := i
		if i < 0 {
			n = max(0, len(rest)-len(s.delimiter)+1)
		}
		if keep {
			if len(value)+n > maxFormField {
				return nil, invalidBody(field, fmt.Sprintf("%s is longer than %d bytes", field, maxFormField))
			}
			value = append(value, rest[:n]...)
		}
		s.at += n
		if i >= 0 {
			s.at += len(s.delimiter)
			return value, nil
		}
		if ok, err := s.more(); !ok {
			return nil, cutShort(err)
		}
	}
}

// scanTail reads what comes after the last boundary: nothing, or line breaks.
func (s *formScanner) scanTail(f *Form) error {
	const lineBreak = "\r\n"
	for n := 0; ; {
		for _, c := range s.rest() {
			if c != lineBreak[n%2] {
				return notForm("there is more text after its last boundary")
			}
			n++
		}
		s.at = s.until
		ok, err := s.more()
		if err != nil {
			return err
		}
		if !ok {
			if n%2 != 0 {
				return notForm("it ends too early")
			}
			f.Size = s.read
			return nil
		}
	}
}

// cutShort is the error for a form that ends too early: err, if reading failed.
func cutShort(err error) error {
	if err != nil {
		return err
	}
	return notForm("it ends too early")
}

func notForm(why string) Error {
	return invalidBody("", "the body is not a form as multipart/form-data asks for: "+why)
}
