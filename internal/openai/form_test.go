package openai

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
	"testing/iotest"
)

const edge = "x-Edge"

// form is a form of the parts given, each of its headers, an empty line and its
// data, with a bar for each line break.
func form(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("--" + edge + "\r\n" + strings.ReplaceAll(p, "|", "\r\n") + "\r\n")
	}
	return b.String() + "--" + edge + "--\r\n"
}

const (
	modelPart  = `Content-Disposition: form-data; name="model"||whisper`
	filePart   = `Content-Disposition: form-data; name="file"; filename="a.wav"|Content-Type: audio/wav||RIFF`
	streamPart = `Content-Disposition: form-data; name="stream"||true`
)

func TestScanForm(t *testing.T) {
	tests := []struct {
		name, form, model string
		stream            bool
	}{
		{"model first", form(modelPart, filePart), "whisper", false},
		{"model after the file", form(filePart, modelPart), "whisper", false},
		{"model after the stream and a large file", form(streamPart, filePart+strings.Repeat("\r\n-", 3*formWindow), modelPart), "whisper", true},
		{"no model", form(filePart), "", false},
		{"empty model", form(`Content-Disposition: form-data; name="model"||`), "", false},
		{"no part", form(), "", false},
		{"no line break at the end", strings.TrimSuffix(form(modelPart), "\r\n"), "whisper", false},
		{"line breaks at the end", form(modelPart) + "\r\n\r\n", "whisper", false},
		{"name without quotes", form(`Content-Disposition: form-data; name=model||a`), "a", false},
		{"other case", form(`content-disposition:FORM-DATA;NAME="model"||a`), "a", false},
		{"more headers", form(`Content-Type: text/plain; charset=utf-8|Content-Length: 1|Content-Disposition: form-data; name="model"|Content-Transfer-Encoding: 8bit||a`), "a", false},
		{"another field in another case", form(`Content-Disposition: form-data; name="Model"||b`, modelPart), "whisper", false},
		{"model in a file's name", form(`Content-Disposition: form-data; name="file"; filename="\"; name=\"model"||b`, modelPart), "whisper", false},
		{"extended file name", form(`Content-Disposition: form-data; name="file"; filename="a"; filename*=UTF-8''%e2%82%ac||b`, modelPart), "whisper", false},
		{"model inside a file", form(filePart+`|--x-Edg|Content-Disposition: form-data; name="model"||b`, modelPart), "whisper", false},
		{"half a boundary", form(filePart+"|--x-Edg", modelPart), "whisper", false},
		{"boundary after LF alone", form(filePart+"\n--"+edge+"\n", modelPart), "whisper", false},
		{"not ASCII", form(`Content-Disposition: form-data; name="model"||模型/é`), "模型/é", false},
		{"line breaks in the model", form(`Content-Disposition: form-data; name="model"||a||b|`), "a\r\n\r\nb\r\n", false},
		{"stream off", form(modelPart, `Content-Disposition: form-data; name="stream"||false`), "whisper", false},
		{"stream by number", form(modelPart, `Content-Disposition: form-data; name="stream"||1`), "whisper", true},
		{"longest model", form(`Content-Disposition: form-data; name="model"||` + strings.Repeat("a", maxFormField)), strings.Repeat("a", maxFormField), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, src := range []io.Reader{
				strings.NewReader(tt.form),
				iotest.OneByteReader(strings.NewReader(tt.form)),
				iotest.DataErrReader(strings.NewReader(tt.form)),
			} {
				var tee bytes.Buffer
				f, err := ScanForm(src, &tee, edge)
				if err != nil {
					t.Fatal(err)
				}
				if f.Model != tt.model || f.Stream != tt.stream {
					t.Errorf("model %q, stream %v; want %q, %v", f.Model, f.Stream, tt.model, tt.stream)
				}
				if tee.String() != tt.form || f.Size != int64(len(tt.form)) {
					t.Errorf("%d bytes were passed on, size %d, want %d", tee.Len(), f.Size, len(tt.form))
				}
			}
			checkForm(t, []byte(tt.form))
		})
	}
}

func TestScanFormRefuses(t *testing.T) {
	disposition := func(s string) string { return form("Content-Disposition: " + s + "||a") }
	tests := []struct{ name, form, message, param string }{
		{"empty", "", "does not begin with its boundary", ""},
		{"JSON", `{"model":"a"}`, "does not begin with its boundary", ""},
		{"text before", "hello\r\n" + form(modelPart), "does not begin with its boundary", ""},
		{"line break before", "\r\n" + form(modelPart), "does not begin with its boundary", ""},
		{"LF alone", strings.ReplaceAll(form(modelPart), "\r\n", "\n"), "CR LF", ""},
		{"space after a boundary", strings.Replace(form(modelPart), edge, edge+" ", 1), "boundary occurs inside", ""},
		{"longer boundary inside", form(filePart + "|--" + edge + "2|"), "boundary occurs inside", ""},
		{"boundary as data", form(`Content-Disposition: form-data; name="model"||--` + edge), "boundary occurs inside", ""},
		{"text after", form(modelPart) + "a", "more text after", ""},
		{"form after", form(modelPart) + form(modelPart), "more text after", ""},
		{"half a line break after", form(modelPart) + "\r", "too early", ""},
		{"LF after", form(modelPart) + "\n", "more text after", ""},
		{"model twice", form(modelPart, filePart, modelPart), "model occurs twice", "model"},
		{"model twice, once empty", form(`Content-Disposition: form-data; name="model"||`, modelPart), "model occurs twice", "model"},
		{"model twice, once a file", form(modelPart, `Content-Disposition: form-data; name="model"; filename=""||b`), "model occurs twice", "model"},
		{"stream twice", form(streamPart, streamPart), "stream occurs twice", "stream"},
		{"model as a file", disposition(`form-data; name="model"; filename=""`), "not a file", "model"},
		{"model as a file by extended name", disposition(`form-data; name="model"; filename*=UTF-8''a`), "not a file", "model"},
		{"model too long", form(`Content-Disposition: form-data; name="model"||` + strings.Repeat("a", maxFormField+1)), "longer than 1024 bytes", "model"},
		{"model not UTF-8", form("Content-Disposition: form-data; name=\"model\"||\xff"), "not UTF-8", "model"},
		{"no disposition", form(`Content-Type: text/plain||a`), "no Content-Disposition", ""},
		{"no headers", form(`|a`), "no Content-Disposition", ""},
		{"two dispositions", form(`Content-Disposition: form-data; name="a"|Content-Disposition: form-data; name="model"||a`), "two Content-Dispositions", ""},
		{"folded header", form("Content-Disposition: form-data;| name=\"model\"||a"), "cannot be read", ""},
		{"space before the colon", form(`Content-Disposition : form-data; name="model"||a`), "cannot be read", ""},
		{"header without a name", form(`: a|Content-Disposition: form-data; name="model"||a`), "cannot be read", ""},
		{"attachment", disposition(`attachment; name="model"`), "other than form-data", ""},
		{"no name", disposition(`form-data`), "names no field", ""},
		{"name twice", disposition(`form-data; name="a"; name="model"`), "cannot be read", ""},
		{"name twice in another case", disposition(`form-data; name="a"; NAME="model"`), "cannot be read", ""},
		{"extended name", disposition(`form-data; name="a"; name*=UTF-8''model`), "parameter in parts", ""},
		{"name in parts", disposition(`form-data; name*0="mo"; name*1="del"`), "parameter in parts", ""},
		{"escaped name", disposition(`form-data; name="mod\el"`), "backslash", ""},
		{"escaped backslash", disposition(`form-data; name="mod\\el"`), "backslash", ""},
		{"string that ends twice", disposition(`form-data; name="a"; filename="a\\"; x="; name=model; y="`), "cannot be read", ""},
		{"string without an end", disposition(`form-data; name="model`), "cannot be read", ""},
		{"space around the sign", disposition(`form-data; name = "model"`), "cannot be read", ""},
		{"angle brackets", disposition(`form-data; name=<model>`), "cannot be read", ""},
		{"no-break space", disposition("form-data; name=\"model\"\u00a0"), "cannot be read", ""},
		{"NUL in a header", disposition("form-data; name=\"model\x00\""), "control character", ""},
		{"CR in a header", disposition("form-data; name=\"model\"\r"), "control character", ""},
		{"base64", form(`Content-Disposition: form-data; name="model"|Content-Transfer-Encoding: base64||YQ==`), "Content-Transfer-Encoding", ""},
		{"headers too long", form("A: " + strings.Repeat("a", maxPartHeaders) + "||a"), "longer than 8192 bytes", ""},
		{"headers without an end", form(strings.Repeat("A: a|", maxPartHeaders/5) + "|a"), "longer than 8192 bytes", ""},
		{"too many parts", form(append(strings.Split(strings.Repeat(filePart+"\x00", maxFormParts), "\x00")[:maxFormParts], modelPart)...), "more than 1000 parts", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ScanForm(strings.NewReader(tt.form), nil, edge)
			e, ok := errors.AsType[Error](err)
			if !ok || e.Status != http.StatusBadRequest || e.Code != CodeInvalidBody || e.Param != tt.param || !strings.Contains(e.Message, tt.message) {
				t.Errorf("got %+v, want param %q and %q", err, tt.param, tt.message)
			}
		})
	}
}

// TestScanFormEveryCut cuts a form at every place: only without its last line
// break, or that and more of it, is it still a form.
func TestScanFormEveryCut(t *testing.T) {
	whole := form(filePart, modelPart, streamPart)
	for n := range whole {
		_, err := ScanForm(strings.NewReader(whole[:n]), nil, edge)
		if (err == nil) != (n == len(whole)-2) {
			t.Errorf("cut at %d of %d: %v", n, len(whole), err)
		}
	}
}

// TestScanFormAtEveryOffset moves a model through the end of the window.
func TestScanFormAtEveryOffset(t *testing.T) {
	body := form(filePart, modelPart)
	for n := formWindow - len(body) - 2; n <= formWindow; n++ {
		checkForm(t, []byte(form(filePart+strings.Repeat("a", n), modelPart)))
	}
}

// TestScanFormPassesErrorsOn: errors that are not the form's come out as they
// went in.
func TestScanFormPassesErrorsOn(t *testing.T) {
	failure := errors.New("failure")
	whole := form(filePart, modelPart)
	for n := range len(whole) + 1 {
		src := io.MultiReader(strings.NewReader(whole[:n]), iotest.ErrReader(failure))
		if _, err := ScanForm(src, nil, edge); err != failure {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	r, w := io.Pipe()
	_ = r.CloseWithError(failure)
	if _, err := ScanForm(strings.NewReader(whole), w, edge); err != failure {
		t.Errorf("from the tee: %v", err)
	}
	if _, err := ScanForm(stuck{}, nil, edge); err != io.ErrNoProgress {
		t.Errorf("from a reader that gives nothing: %v", err)
	}
}

// stuck is a reader that neither gives anything nor ends.
type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// TestScanFormHoldsAWindow: however large the form, no read asks for more than a
// window, and what was read has been passed on before the next read.
func TestScanFormHoldsAWindow(t *testing.T) {
	const size = 64 << 20
	src := &counting{r: io.MultiReader(
		strings.NewReader("--"+edge+"\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n"),
		io.LimitReader(zeros{}, size),
		strings.NewReader("\r\n"+form(modelPart)),
	)}
	f, err := ScanForm(src, writerFunc(func(p []byte) { src.passed += len(p) }), edge)
	if err != nil || f.Model != "whisper" || f.Size <= size {
		t.Errorf("%+v, %v", f, err)
	}
	if src.most > formWindow || src.behind {
		t.Errorf("reads of up to %d bytes; one before the last was passed on: %v", src.most, src.behind)
	}
	if n := testing.AllocsPerRun(10, func() {
		if _, err := ScanForm(io.LimitReader(zeros{}, 1), nil, edge); err == nil {
			t.Error("no error")
		}
	}); n > 30 {
		t.Errorf("%v allocations", n)
	}
}

type counting struct {
	r                  io.Reader
	read, passed, most int
	behind             bool
}

func (c *counting) Read(p []byte) (int, error) {
	c.most = max(c.most, len(p))
	c.behind = c.behind || c.passed != c.read
	n, err := c.r.Read(p)
	c.read += n
	return n, err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

// TestScanFormReadsWhatWritersWrite: forms of the standard library's writer, with
// whatever in them, are all accepted.
func TestScanFormReadsWhatWritersWrite(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	names := []string{"file", "prompt", "language", "Model", "model ", "timestamp_granularities[]"}
	for range 500 {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		model, parts := "", r.IntN(6)
		at := r.IntN(parts + 2) // once in a while there is no model
		for n := range parts + 1 {
			if n == at {
				model = fmt.Sprintf("model-%d", r.Uint32())
				_ = w.WriteField("model", model)
				continue
			}
			data := make([]byte, r.IntN(1<<r.IntN(17)))
			for i := range data {
				data[i] = "\r\n-a\x00"[r.IntN(5)]
			}
			h := textproto.MIMEHeader{}
			h.Set("Content-Disposition", multipart.FileContentDisposition(names[r.IntN(len(names))], "dir\\a\"ü.wav"))
			p, _ := w.CreatePart(h)
			_, _ = p.Write(data)
		}
		_ = w.Close()
		f, err := ScanForm(iotest.HalfReader(bytes.NewReader(b.Bytes())), nil, w.Boundary())
		if err != nil || f.Model != model {
			t.Fatalf("model %q, %v; want %q in %q", f.Model, err, model, b.Bytes())
		}
	}
}

// checkForm compares a form's reading, if it is accepted, with mime/multipart's,
// and names another model in it.
func checkForm(t *testing.T, body []byte) {
	t.Helper()
	f, err := ScanForm(bytes.NewReader(body), nil, edge)
	if err != nil {
		if _, ok := errors.AsType[Error](err); !ok {
			t.Fatalf("not an Error: %v", err)
		}
		return
	}
	want, err := readParts(body)
	if err != nil {
		t.Fatalf("%q is accepted; mime/multipart: %v", body, err)
	}
	model, named, stream := "", 0, false
	for _, p := range want {
		switch p.name {
		case "model":
			model = p.data
			named++
		case "stream":
			stream = isTrue(p.data)
		}
	}
	if f.Model != model || f.named != (named == 1) || named > 1 || f.Stream != stream || f.Size != int64(len(body)) {
		t.Fatalf("%q: %+v; mime/multipart finds %d models, %q", body, f, named, model)
	}
	if f.named && string(body[f.start:f.end]) != model {
		t.Fatalf("%q: the model stands at %d to %d", body, f.start, f.end)
	}

	r, size := f.Named(bytes.NewReader(body), "other/model")
	edited, err := io.ReadAll(r)
	if err != nil || int64(len(edited)) != size {
		t.Fatalf("%q: %d bytes, said to be %d: %v", edited, len(edited), size, err)
	}
	got, err := readParts(edited)
	if err != nil {
		t.Fatalf("%q: %v", edited, err)
	}
	if named == 0 {
		want = append([]formPart{{name: "model"}}, want...)
	}
	for i, p := range want {
		if p.name == "model" {
			p.data = "other/model"
		}
		if len(got) != len(want) || got[i] != p {
			t.Fatalf("%q: %+v, want %+v", edited, got, want)
		}
	}
	if again, err := ScanForm(bytes.NewReader(edited), nil, edge); err != nil || again.Model != "other/model" || again.Stream != stream {
		t.Fatalf("%q: %+v, %v", edited, again, err)
	}
}

type formPart struct{ name, data string }

// readParts reads a form by mime/multipart.
func readParts(body []byte) (parts []formPart, err error) {
	r := multipart.NewReader(bytes.NewReader(body), edge)
	for {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return parts, nil
		}
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(p)
		if err != nil {
			return nil, err
		}
		parts = append(parts, formPart{p.FormName(), string(data)})
	}
}

func FuzzScanForm(f *testing.F) {
	f.Add([]byte(form(modelPart, filePart)))
	f.Add([]byte(form(filePart, streamPart, modelPart)))
	f.Add([]byte(form()))
	f.Add([]byte(form(`Content-Disposition: form-data; name="model"||`)))
	f.Add([]byte(form(`Content-Disposition: form-data; name="file"; filename="\"; name=\"model"; filename*=UTF-8''a||b`)))
	f.Add([]byte(form(`Content-Disposition: form-data; name="a\\b"; x="\\"||b`, modelPart)))
	f.Add([]byte(form(filePart+"|--x-Edg|", modelPart) + "\r\n"))
	f.Add([]byte(form(`A: b|Content-Disposition:form-data;name=model|Content-Transfer-Encoding: binary||x|--x-Edge|`)))
	f.Fuzz(func(t *testing.T, body []byte) { checkForm(t, body) })
}
