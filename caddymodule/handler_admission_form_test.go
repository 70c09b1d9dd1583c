package caddymodule

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
)

const audioPath = "/v1/audio/transcriptions"

// audio is a request with a form: a file of so many bytes, and the model before or
// after it.
func audio(t *testing.T, model string, size int, modelFirst bool) *http.Request {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	name := func() error { return w.WriteField("model", model) }
	file := func() error {
		f, err := w.CreateFormFile("file", "a.wav")
		if err == nil {
			_, err = f.Write(bytes.Repeat([]byte("\r\n-a"), size/4))
		}
		return err
	}
	parts := []func() error{file, name}
	if modelFirst {
		parts = []func() error{name, file}
	}
	for _, part := range append(parts, func() error { return w.WriteField("stream", "true") }, w.Close) {
		if err := part(); err != nil {
			t.Fatal(err)
		}
	}
	r := httptest.NewRequest(http.MethodPost, audioPath, &b)
	r.Header.Set("Content-Type", w.FormDataContentType())
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), nil)
}

// temporaryFiles makes a folder for temporary files, and returns what counts
// those that have a name.
func temporaryFiles(t *testing.T) func() int {
	t.Helper()
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	return func() int {
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Error(err)
		}
		return len(entries)
	}
}

// admissionOfForms takes bodies of up to 4 MiB.
func admissionOfForms(a *App, core zapcore.Core) *Admission {
	h := admissionTo(a, core)
	h.limits.max, h.limits.memory = 4<<20, 8<<20
	return h
}

// TestFormsPass sends forms through admission and upstream to a server, which
// answers the first attempt with 503: the second must have the whole form again.
func TestFormsPass(t *testing.T) {
	left := temporaryFiles(t)
	for _, size := range []int{0, 1000, 900 << 10, formMemory, 3 << 20} {
		for _, first := range []bool{true, false} {
			for _, name := range []string{"tiny", "tiny-alias"} {
				t.Run(fmt.Sprintf("%d bytes, model first %v, %s", size, first, name), func(t *testing.T) {
					testFormPasses(t, size, first, name)
				})
			}
		}
	}
	if n := left(); n != 0 {
		t.Errorf("%d temporary files are left", n)
	}
}

func testFormPasses(t *testing.T, size int, first bool, name string) {
	var attempts atomic.Int32
	app := appWith(t, &fakeEngine{handler: healthy(func(w http.ResponseWriter, r *http.Request) {
		n := attempts.Add(1)
		if err := r.ParseMultipartForm(8 << 20); err != nil {
			t.Error(err)
			return
		}
		f, h, err := r.FormFile("file")
		if err != nil {
			t.Error(err)
			return
		}
		b, _ := io.ReadAll(f)
		if r.URL.Path != audioPath || len(r.MultipartForm.Value["model"]) != 1 || r.FormValue("model") != "tiny" ||
			r.FormValue("stream") != "true" || h.Filename != "a.wav" || !bytes.Equal(b, bytes.Repeat([]byte("\r\n-a"), size/4)) {
			t.Errorf("%s: the form has %v and a file %s of %d bytes", r.URL.Path, r.MultipartForm.Value, h.Filename, len(b))
		}
		if n == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, `{"text":"hello"}`)
	})}, nil)
	u := new(Upstream)
	u.open(zap.NewNop())
	a := admissionOfForms(app, zapcore.NewNopCore())
	var disk *diskBody
	w := serve(t, a, audio(t, name, size, first), func(w http.ResponseWriter, r *http.Request) error {
		x := exchangeOf(r.Context())
		if disk = x.body.disk; (disk != nil) != (size >= formMemory) {
			t.Errorf("the body is on disk: %v", disk != nil)
		}
		if disk != nil && a.limits.budget.used.Load() != 0 {
			t.Error("a body on disk takes memory")
		}
		if x.model != "tiny" || !x.stream {
			t.Errorf("model %s, stream %v", x.model, x.stream)
		}
		return u.ServeHTTP(w, r, nil)
	})
	if w.Code != http.StatusOK || w.Body.String() != `{"text":"hello"}` || attempts.Load() != 2 {
		t.Errorf("status %d, %s after %d attempts", w.Code, w.Body, attempts.Load())
	}
	if used := a.limits.budget.used.Load(); used != 0 {
		t.Errorf("%d bytes of bodies are counted after the request", used)
	}
	if disk != nil {
		if _, err := disk.file.Stat(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("the temporary file is still open: %v", err)
		}
	}
}

func TestFormsThatAreRefused(t *testing.T) {
	left := temporaryFiles(t)
	core, logs := observer.New(zapcore.ErrorLevel)
	a := admissionOfForms(appWith(t, new(fakeEngine), nil), core)
	with := func(r *http.Request, body io.Reader) *http.Request {
		r.Body, r.ContentLength = io.NopCloser(body), -1
		return r
	}
	compressed := audio(t, "tiny", 10, true)
	compressed.Header.Set("Content-Encoding", "gzip")
	cut := audio(t, "tiny", 2<<20, true)
	half, err := io.ReadAll(io.LimitReader(cut.Body, 1<<20+1<<19))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		r      *http.Request
		status int
		code   string
	}{
		{"unknown model", audio(t, "none", 10, true), 404, "model_not_found"},
		{"unknown model on disk", audio(t, "none", 2<<20, true), 404, "model_not_found"},
		{"no model", audio(t, "", 10, true), 400, "model_required"},
		{"too large", audio(t, "tiny", 5<<20, true), 413, "body_too_large"},
		{"too large, not announced", with(audio(t, "tiny", 0, true), audio(t, "tiny", 5<<20, true).Body), 400, "invalid_body"},
		{"another form's boundary", with(audio(t, "tiny", 0, true), strings.NewReader("--x\r\n")), 400, "invalid_body"},
		{"compressed", compressed, 400, "invalid_body"},
		{"cut short", with(cut, bytes.NewReader(half)), 400, "invalid_body"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := serve(t, a, tt.r, func(http.ResponseWriter, *http.Request) error {
				t.Error("the request passed")
				return nil
			})
			var e struct {
				Error struct{ Code, Message string }
			}
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != tt.status || e.Error.Code != tt.code {
				t.Errorf("status %d, %s, want %d %s", w.Code, w.Body, tt.status, tt.code)
			}
			if used := a.limits.budget.used.Load(); used != 0 {
				t.Errorf("%d bytes of bodies are counted after the request", used)
			}
		})
	}
	if n := left(); n != 0 || logs.Len() != 0 {
		t.Errorf("%d temporary files are left, the log says %v", n, logs.All())
	}
}

// A disk that cannot be written to is the gateway's trouble: the client is told
// nothing of it, the log is.
func TestNoRoomForForms(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()+"/secret")
	core, logs := observer.New(zapcore.ErrorLevel)
	a := admissionOfForms(appWith(t, new(fakeEngine), nil), core)
	w := serve(t, a, audio(t, "tiny", 2<<20, true), nil)
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("status %d, %s", w.Code, w.Body)
	}
	if logs.Len() != 1 || a.limits.budget.used.Load() != 0 {
		t.Errorf("the log says %v, %d bytes are counted", logs.All(), a.limits.budget.used.Load())
	}
}

func TestFormsTakeMemoryFromTheBudget(t *testing.T) {
	budget := new(byteBudget)
	l := bodyLimits{max: 4 << 20, memory: 300 << 10, budget: budget}
	read := func(size int) (*requestBody, error) {
		r := audio(t, "tiny", size, false)
		boundary, err := openai.CheckForm(r.Header)
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := l.readForm(httptest.NewRecorder(), r, boundary)
		return b, err
	}
	b, err := read(80 << 10)
	if err != nil || budget.used.Load() < 80<<10 {
		t.Fatalf("%v, %d bytes are counted", err, budget.used.Load())
	}
	_, err = read(80 << 10)
	if e, ok := errors.AsType[openai.Error](err); !ok || e.Code != openai.CodeBodyMemory {
		t.Errorf("a second one: %v", err)
	}
	b.drop()
	b.drop()
	if budget.used.Load() != 0 {
		t.Errorf("%d bytes are counted after the drop", budget.used.Load())
	}
}

// A reader that is still read when the body is dropped goes on to its end, and the
// file is closed after it.
func TestFormsOutliveTheirDrop(t *testing.T) {
	left := temporaryFiles(t)
	r := audio(t, "tiny-alias", 2<<20, true)
	boundary, err := openai.CheckForm(r.Header)
	if err != nil {
		t.Fatal(err)
	}
	l := bodyLimits{max: 4 << 20, memory: 4 << 20, budget: new(byteBudget)}
	b, form, err := l.readForm(httptest.NewRecorder(), r, boundary)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.rename(&form, "tiny"); err != nil {
		t.Fatal(err)
	}
	size, file, reader := b.len(), b.disk.file, b.reader()
	handed := b.hand()
	b.drop()
	if n, _ := io.Copy(io.Discard, handed); n != 0 {
		t.Errorf("the handed reader gives %d bytes after the drop", n)
	}
	if n, err := io.Copy(io.Discard, reader); int(n) != size || err != nil {
		t.Errorf("%d of %d bytes are read: %v", n, size, err)
	}
	for range 2 {
		_ = reader.Close()
	}
	if _, err := file.Stat(); !errors.Is(err, os.ErrClosed) || left() != 0 {
		t.Errorf("the file is open, or left: %v, %d", err, left())
	}
}

// Control routes of the servers do not pass, however a client writes them on the
// wire.
func TestControlRoutesNeverPass(t *testing.T) {
	a := admissionTo(appWith(t, new(fakeEngine), nil), zapcore.NewNopCore())
	seen := 0
	for _, route := range []string{
		"/sleep", "/wake_up", "/is_sleeping", "/collective_rpc", "/reset_prefix_cache", "/load_lora_adapter",
		"/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/pause", "/resume", "/server_info", "/start_profile",
		"/stop_profile", "/scale_elastic_ep", "/update_weights", "/tokenizer_info", "/metrics", "/version", "/docs",
	} {
		for _, target := range []string{
			route, strings.ToUpper(route), "/" + route, "//" + route, route + "/", route + "/.", "/." + route, "/v1/.." + route,
			"/%2e%2e" + route, "/v1/chat/completions/../../.." + route, "/v1/chat/completions/..%2f..%2f.." + route,
			"/v1/chat/completions" + route, "/v1/responses/resp_1" + route, "/v1/responses/resp_1/../../.." + route,
			"/v1/chat/completions;" + route, "/v1/chat/completions%00" + route, "/v1/chat/completions%23" + route,
			"/v1/chat/completions%3f" + route, "/v1/chat/completions%20" + route, route + ";/v1/chat/completions",
			route + "%00/v1/chat/completions", route + "?/v1/chat/completions", route + "/../v1/chat/completions",
			"/%" + fmt.Sprintf("%02x", route[1]) + route[2:], "/%25" + fmt.Sprintf("%02x", route[1]) + route[2:],
			"%2f" + route[1:], "/v1/chat/completions\\.." + route, "http://gateway" + route, "http://gateway/" + route,
		} {
			for _, method := range []string{"POST", "GET", "HEAD", "OPTIONS", "PUT", "post"} {
				wire := method + " " + target + " HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"model\":\"tiny\"}"
				r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire)))
				if err != nil {
					continue // no server passes it on
				}
				seen++
				r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), nil)
				w := serve(t, a, r, func(http.ResponseWriter, *http.Request) error {
					t.Errorf("%s %s passed", method, target)
					return nil
				})
				if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "route_not_found") {
					t.Errorf("%s %s: status %d, %s", method, target, w.Code, w.Body)
				}
			}
		}
	}
	if seen < 1000 {
		t.Errorf("only %d requests could be read", seen)
	}
}
