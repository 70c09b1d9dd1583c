package caddymodule

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// What a server says in an error reaches the client without its secrets, and in a
// shape that SDKs understand.
func TestServerErrors(t *testing.T) {
	const ours = `{"error":{"message":"the server of model tiny %s","type":%q,"param":null,"code":%q}}`
	tests := []struct {
		name, media string
		status      int
		body        string
		want        int
		told        string
	}{
		{
			"a mistake of the client's", "application/json", 400, `{"error":{"message":"n must be 1","type":"BadRequestError","param":"n","code":400}}`, 400,
			`{"error":{"message":"n must be 1","type":"BadRequestError","param":"n","code":400}}`,
		},
		{
			"with a path", "application/json; charset=utf-8", 422, `{"error":{"message":"bad template /root/.cache/t.jinja"}}`, 422,
			`{"error":{"message":"bad template [path]"}}`,
		},
		{"as text", "text/plain", 404, "Not Found at 10.0.0.1", 404, fmt.Sprintf(ours, "refused the request", "invalid_request_error", "refused_by_server")},
		{"not the JSON it says", "application/json", 400, "<html>", 400, fmt.Sprintf(ours, "refused the request", "invalid_request_error", "refused_by_server")},
		{
			"too large", "application/json", 400, `{"error":"` + strings.Repeat("x", maxErrorBody) + `"}`, 400,
			fmt.Sprintf(ours, "refused the request", "invalid_request_error", "refused_by_server"),
		},
		{
			"of the server's", "application/json", 500, `{"error":{"message":"EngineCore encountered an issue, see tcp://127.0.0.1:5","type":"InternalServerError","code":500}}`, 500,
			`{"error":{"message":"EngineCore encountered an issue, see [url]","type":"server_error","param":null,"code":"upstream_failed"}}`,
		},
		{"of the server's, as text", "text/plain", 500, "Internal Server Error in /app/x.py", 500, fmt.Sprintf(ours, "failed at the request", "server_error", "upstream_failed")},
		{"its own gateway", "text/html", 504, "<html>nginx</html>", 504, fmt.Sprintf(ours, "failed at the request", "server_error", "upstream_failed")},
		{"the gateway's own key", "application/json", 401, `{"error":"Unauthorized"}`, 502, fmt.Sprintf(ours, "did not answer properly", "server_error", "upstream_failed")},
		{"a redirection", "text/plain", 307, "", 502, fmt.Sprintf(ours, "did not answer properly", "server_error", "upstream_failed")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := proxyTo(t, serving(t, "a", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", tt.media)
				w.Header().Set("X-Worker", "10.0.0.1")
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}))
			res := p.post(t, "{}")
			if answer := text(t, res); res.StatusCode != tt.want || answer != tt.told {
				t.Errorf("the client reads status %d, %s, want %d, %s", res.StatusCode, answer, tt.want, tt.told)
			}
			if res.Header.Get("X-Worker") != "" || res.Header.Get("Server-Timing") == "" {
				t.Errorf("the client sees %v", res.Header)
			}
			p.ended(t)
		})
	}
}
