package caddymodule

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
)

// upload is a request with a body whose length is announced, or not.
func upload(body io.Reader, length int64) *http.Request {
	r := httptest.NewRequest(http.MethodPost, chatPath, body)
	r.ContentLength = length
	return r
}

func TestBodiesAreReadWhole(t *testing.T) {
	for _, size := range []int{0, 1, firstRead - 1, firstRead, firstRead + 1, 5 * firstRead, 1 << 20} {
		want := bytes.Repeat([]byte("x"), size)
		for _, length := range []int64{int64(size), -1} {
			budget := new(byteBudget)
			l := bodyLimits{max: 1 << 20, memory: 1 << 30, budget: budget}
			b, err := l.read(httptest.NewRecorder(), upload(iotest.HalfReader(bytes.NewReader(want)), length))
			if err != nil {
				t.Fatalf("%d bytes, announced %d: %v", size, length, err)
			}
			if !bytes.Equal(b.bytes, want) {
				t.Errorf("%d bytes, announced %d: %d were read", size, length, b.len())
			}
			if used := budget.used.Load(); used < int64(size) || used > max(4*int64(size)+4, firstRead) {
				t.Errorf("%d bytes, announced %d: %d were counted", size, length, used)
			}
			r := b.hand()
			b.drop()
			b.drop()
			if n, _ := io.Copy(io.Discard, r); n != 0 || budget.used.Load() != 0 {
				t.Errorf("%d bytes are held and %d counted after the drop", n, budget.used.Load())
			}
		}
	}
}

func TestBodyLimits(t *testing.T) {
	const (
		limit  = 1 << 10
		memory = 2 << 10
	)
	cut := io.MultiReader(strings.NewReader("{"), iotest.ErrReader(io.ErrUnexpectedEOF))
	slow := io.MultiReader(strings.NewReader("{"), iotest.ErrReader(os.ErrDeadlineExceeded))
	bad := io.MultiReader(strings.NewReader("{"), iotest.ErrReader(errors.New("invalid byte in chunk length")))
	tests := []struct {
		name   string
		body   io.Reader
		length int64
		used   int64 // by others
		status int   // 0: the client left
	}{
		{"announced too large", strings.NewReader(""), limit + 1, 0, http.StatusRequestEntityTooLarge},
		{"too large", strings.NewReader(strings.Repeat("x", limit+1)), -1, 0, http.StatusRequestEntityTooLarge},
		{"no memory", strings.NewReader("{}"), 2, memory - 1, http.StatusServiceUnavailable},
		{"too slow", slow, 10, 0, http.StatusRequestTimeout},
		{"not to be read", bad, -1, 0, http.StatusBadRequest},
		{"broken off", cut, 10, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			budget := new(byteBudget)
			budget.used.Store(tt.used)
			l := bodyLimits{max: limit, memory: memory, budget: budget}
			_, err := l.read(httptest.NewRecorder(), upload(tt.body, tt.length))
			e, ok := errors.AsType[openai.Error](err)
			if tt.status == 0 && !errors.Is(err, errClientLeft) || tt.status != 0 && (!ok || e.Status != tt.status) {
				t.Errorf("error %v, want status %d", err, tt.status)
			}
			if used := budget.used.Load(); used != tt.used {
				t.Errorf("%d bytes are counted, want %d", used, tt.used)
			}
		})
	}
}

// A client that announces much takes only what it sends.
func TestAnnouncedLengthTakesNoMemory(t *testing.T) {
	budget := new(byteBudget)
	l := bodyLimits{max: 1 << 30, memory: 1 << 30, budget: budget}
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = l.read(httptest.NewRecorder(), upload(r, 1<<30))
	}()
	_, _ = w.Write([]byte("{"))
	if used := budget.used.Load(); used > firstRead {
		t.Errorf("%d bytes are counted for one", used)
	}
	_ = w.CloseWithError(io.ErrUnexpectedEOF)
	<-done
}

func TestByteBudgetIsExact(t *testing.T) {
	const limit = 100
	var b byteBudget
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if b.take(30, limit) {
					if used := b.used.Load(); used > limit {
						t.Errorf("%d of %d bytes are taken", used, limit)
					}
					b.give(30)
				}
			}
		})
	}
	wg.Wait()
	if used := b.used.Load(); used != 0 {
		t.Errorf("%d bytes are left", used)
	}
}
