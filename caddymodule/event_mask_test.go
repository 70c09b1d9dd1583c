package caddymodule

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
)

// piecewise reads a text in pieces of so many bytes.
type piecewise struct {
	text []byte
	size int
}

func (p *piecewise) Read(b []byte) (int, error) {
	if len(p.text) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.size)], p.text)
	p.text = p.text[n:]
	return n, nil
}

func TestErrorsInStreamsAreMasked(t *testing.T) {
	const (
		event = `data: {"id":"1","text":"see /a/b: {\"error\""}` + "\n\n"
		told  = `data: {"error": {"message": "worker at tcp://10.0.0.1:5 died", "code": 500}}` + "\r\n\r\n"
		shown = `data: {"error":{"code":500,"message":"worker at [url] died"}}` + "\r\n\r\n"
	)
	for _, tt := range []struct{ name, sent, want string }{
		{"none", event + event + "data: [DONE]\n\n", event + event + "data: [DONE]\n\n"},
		{"after an event", event + told + "data: [DONE]\n\n", event + shown + "data: [DONE]\n\n"},
		{"of Anthropic's", "event: error\ndata: {\"type\":\"error\",\"error\":{\"message\":\"in /a/b\"}}\n\n", "event: error\ndata: {\"error\":{\"message\":\"in [path]\"},\"type\":\"error\"}\n\n"},
		{"with nothing to mask", "data: {\"error\":{ \"message\":\"no\"}}\n\n", "data: {\"error\":{ \"message\":\"no\"}}\n\n"},
		{"that is no JSON", "data: {\"error\": /a/b\n\n", maskedText + "\n\n"},
		{"that is cut off", event + strings.TrimRight(told, "\r\n"), event},
		{"that is too large", "data: {\"error\":\"" + strings.Repeat("/a/b ", maxErrorBody) + "\n\n", maskedText + "\n\n"},
		{"what looks like one and is cut off", "data: {\"err", "data: {\"err"},
		{"nothing", "", ""},
	} {
		for _, size := range []int{1, 2, 7, 13, 1 << 20} {
			m := &maskedEvents{ReadCloser: io.NopCloser(&piecewise{[]byte(tt.sent), size})}
			got, err := io.ReadAll(m)
			if err != nil || string(got) != tt.want {
				t.Errorf("%s, in pieces of %d: %.200q, %v, want %.200q", tt.name, size, got, err, tt.want)
			}
		}
	}
}

const maskedText = `data: {"error":{"message":"the server told an error that cannot be shown","type":"server_error","param":null,"code":"upstream_failed"}}`

// How a stream is cut into pieces changes nothing of it, and but for errors it
// passes as it is.
func FuzzMaskedEvents(f *testing.F) {
	f.Add([]byte("data: {\"id\":1}\n\ndata: {\"error\":\"/a/b\"}\n\n"), uint8(3))
	f.Add([]byte("data: {\"type\": \"error\"}"), uint8(1))
	f.Add([]byte("\n\ndata: {\"error\"\n"), uint8(0))
	f.Fuzz(func(t *testing.T, sent []byte, size uint8) {
		read := func(r io.Reader) []byte {
			b, err := io.ReadAll(&maskedEvents{ReadCloser: io.NopCloser(r)})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		whole := read(bytes.NewReader(sent))
		if got := read(&piecewise{sent, int(size) + 1}); !bytes.Equal(got, whole) {
			t.Errorf("%q in pieces of %d becomes %q, at once %q", sent, size+1, got, whole)
		}
		if got := read(iotest.DataErrReader(bytes.NewReader(sent))); !bytes.Equal(got, whole) {
			t.Errorf("%q becomes %q, at once %q", sent, got, whole)
		}
		if !bytes.Contains(sent, []byte(`error"`)) && !bytes.Equal(whole, sent) {
			t.Errorf("%q becomes %q", sent, whole)
		}
	})
}

func TestErrorOfAServerInAStream(t *testing.T) {
	p := proxyTo(t, speaking(t, "a", func(c net.Conn) {
		_, _ = io.WriteString(c, streamHead+chunk("data: 1\n\n")+chunk("data: {\"error\":{\"message\":\"no file /root/x/y\"}}\n\n")+chunk("data: [DONE]\n\n")+"0\r\n\r\n")
	}))
	res := p.post(t, `{"stream":true}`)
	if got, want := text(t, res), "data: 1\n\ndata: {\"error\":{\"message\":\"no file [path]\"}}\n\ndata: [DONE]\n\n"; got != want {
		t.Errorf("the client reads %q, want %q", got, want)
	}
	p.ended(t)
}
