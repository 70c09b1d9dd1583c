package main

import (
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
)

var testRig struct {
	dir   string
	level string
	rig   *rig
}

// theRig is the rig of a level, loaded when it is first asked for.
func theRig(tb testing.TB, level string) *rig {
	tb.Helper()
	if testRig.dir == "" {
		dir, err := os.MkdirTemp("", "bench-test") //nolint:usetesting // it outlives a test
		if err != nil {
			tb.Fatal(err)
		}
		testRig.dir = dir
	}
	if testRig.level != level {
		r, err := newRig(testRig.dir, level, 4)
		if err != nil {
			tb.Fatal(err)
		}
		testRig.rig, testRig.level = r, level
	}
	return testRig.rig
}

func closeTestRig() {
	if testRig.dir != "" {
		_ = caddy.Stop()
		_ = os.RemoveAll(testRig.dir)
	}
}

// BenchmarkPart is group A for benchstat:
//
//	go test ./bench -run '^$' -bench Part -count 10 | tee new.txt
func BenchmarkPart(b *testing.B) {
	run := func(all []part) {
		for _, p := range all {
			name := strings.NewReplacer(", ", "/", " ", "_", ":", "").Replace(p.name)
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				if err := p.do(b.N); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
	run(scanParts())
	r := theRig(b, "INFO")
	run(append(modelParts(r), handlerPart(r, partAdmission, "")))
	run(proxyParts(r))
	run([]part{handlerPart(theRig(b, "DEBUG"), partDebug, "")})
}

// Every part does what it is named after, and says so if it does not.
func TestParts(t *testing.T) {
	r := theRig(t, "INFO")
	all := append(scanParts(), modelParts(r)...)
	all = append(all, handlerPart(r, partAdmission, ""))
	all = append(all, proxyParts(r)...)
	seen := map[string]bool{}
	for _, p := range all {
		if seen[p.name] {
			t.Errorf("there are two parts %q", p.name)
		}
		seen[p.name] = true
		if err := p.do(100); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	}
	if q := r.model.Queue(); q.Serving != 0 || q.Depth != 0 || q.Refused != 0 {
		t.Errorf("the queue is %+v after all of them", q)
	}
	// One that is refused is an error, not a fast request.
	x := newExchange([]byte(`{"model":"unknown"}`))
	if err := x.admit(r, serveNothing); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("an unknown model: %v", err)
	}
}

func TestBodies(t *testing.T) {
	for _, size := range []int{1 << 10, 100 << 10, 1 << 20} {
		body := chatBody(size, true)
		f, err := openai.Scan(body)
		if err != nil || string(f.Model) != benchModel || !f.Stream {
			t.Errorf("the chat of %d bytes: %v", size, err)
		}
		if len(body) < size-100 || len(body) > size+100 {
			t.Errorf("the chat of %d bytes has %d", size, len(body))
		}
	}
	if f, err := openai.Scan(tokenBody(1 << 20)); err != nil || string(f.Model) != benchModel {
		t.Errorf("the prompt of token IDs: %v", err)
	}
	if u, ok := openai.FindUsage(chatAnswer); !ok || u != (openai.Usage{Prompt: 250, Output: 140}) {
		t.Errorf("the answer's usage is %v", u)
	}
}

// The script answers requests in whatever pieces they come.
func TestScriptedConn(t *testing.T) {
	const request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
	for _, piece := range []int{1, 3, 1000} {
		c := newScriptedConn()
		var wg sync.WaitGroup
		wg.Go(func() {
			for text := request + "GET / HTTP/1.1\r\nHost: a\r\n\r\n" + request; text != ""; {
				n := min(piece, len(text))
				if _, err := io.WriteString(c, text[:n]); err != nil {
					t.Error(err)
				}
				text = text[n:]
			}
		})
		wg.Wait()
		b := make([]byte, len(scriptedAnswer))
		if _, err := io.ReadFull(c, b); err != nil || string(b) != string(scriptedAnswer) {
			t.Errorf("in pieces of %d: %v, %q", piece, err, b)
		}
		_ = c.Close()
		if _, err := c.Read(b); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
	}
	// A real client is content with it.
	tr := standardProxy().Transport.(*http.Transport)
	defer tr.CloseIdleConnections()
	for range 3 {
		res, _, err := ask("http://scripted", tr, &shot{body: chatBody(1<<20, false)})
		if err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(res.Body); err != nil || len(rest) != len(chatAnswer)-1 {
			t.Errorf("%d bytes, %v", len(rest), err)
		}
		_ = res.Body.Close()
	}
}
