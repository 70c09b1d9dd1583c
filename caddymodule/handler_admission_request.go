// This file owns what a queue is told of a request: who sends it, how urgent and
// how large it is, and by when it must be answered.

package caddymodule

import (
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// deadlineHeader says how long a client waits for the whole of its answer: seconds,
// as a decimal, or a duration in Go's notation, such as "1m30s".
const deadlineHeader = "X-Request-Timeout"

const (
	// bytesPerToken is how much JSON makes a token, about. Where the server says
	// how many there were, that counts.
	bytesPerToken = 4
	// audioPerToken is the same of sound: Whisper has 1500 positions for 30 s, which
	// are 960,000 bytes at 16 kHz and 16 bits.
	audioPerToken = 640
	// longestClient is how much of a client's name counts, in bytes.
	longestClient = 128
	// clientBits is how much of an IPv6 address is one client: a household or a
	// server has the rest to itself.
	clientBits = 64
	// longestTimeout is the longest that a client's own deadline makes a difference.
	longestTimeout = 1000 * time.Hour
)

// request is what the model's queue is told of a request whose body has been read.
func (a *Admission) request(r *http.Request, x *exchange, deadline time.Time) vramman.Request {
	q := vramman.Request{Client: a.client(r), Deadline: deadline, Cost: int64(x.body.len() / bytesPerToken)}
	if x.route.ModelIn == openai.ModelInForm {
		q.Cost = int64(x.body.len() / audioPerToken)
	}
	if c := callerOf(r); c != nil {
		q.Class = c.Class
	}
	return q
}

// client is who sends a request, for fairness: its key's name, else what the
// configured header says, else its address. The three cannot be taken for each
// other.
func (a *Admission) client(r *http.Request) string {
	if c := callerOf(r); c != nil && c.Name != "" {
		return "key " + c.Name
	}
	if a.ClientHeader != "" {
		if name := r.Header.Get(a.ClientHeader); name != "" {
			return "header " + name[:min(len(name), longestClient)]
		}
	}
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	if ip == "" {
		ip = r.RemoteAddr
		if host, _, err := net.SplitHostPort(ip); err == nil {
			ip = host
		}
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil || addr.Is4() {
		return ip
	}
	if addr = addr.Unmap().WithZone(""); addr.Is4() {
		return addr.String()
	}
	prefix, _ := addr.Prefix(clientBits) // no IPv6 address has fewer bits
	return prefix.String()
}

// requestTimeout is how long a client waits for its answer; 0: it does not say. The
// error is an [openai.Error].
func requestTimeout(h http.Header) (time.Duration, error) {
	text := h.Get(deadlineHeader)
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if seconds, e := strconv.ParseFloat(text, 64); e == nil && !math.IsNaN(seconds) {
		d, err = time.Duration(min(seconds, longestTimeout.Seconds())*float64(time.Second)), nil
	}
	if err != nil || d <= 0 {
		return 0, openai.Error{
			Status:  http.StatusBadRequest,
			Code:    openai.CodeInvalidHeader,
			Message: fmt.Sprintf("the header %s must be a time above 0: seconds, such as 2.5, or a duration, such as 1m30s", deadlineHeader),
			NoRetry: true,
		}
	}
	return min(d, longestTimeout), nil
}

// queueHeaders tell a client how the queue was when its request came, where it
// stood in it, and for how long.
func queueHeaders(h http.Header, t *vramman.Ticket) {
	depth, most := t.Found()
	values := [4]string{
		strconv.Itoa(depth), strconv.Itoa(most), strconv.Itoa(t.Position()),
		strconv.FormatFloat(t.Queued().Seconds(), 'f', 3, 64),
	}
	v := values[:]
	h["X-Queue-Depth"], h["X-Queue-Max-Size"] = v[0:1:1], v[1:2:2]
	h["X-Queue-Position"], h["X-Queue-Wait"] = v[2:3:3], v[3:4:4]
}
