package caddymodule

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

// An outside server is told nothing of who the client is, whatever a proxy before the
// gateway or a handler that authenticates calls it.
func TestOutsideSeesNoClient(t *testing.T) {
	var seen http.Header
	ts := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.Header }))
	defer ts.Close()
	base, err := url.Parse(ts.URL)
	if err != nil {
		t.Fatal(err)
	}
	secret := []string{"Remote-User", "Forwarded", "Cf-Connecting-Ip", "X-Forwarded-For", "X-Forwarded-User", "X-Real-Ip", "Cookie", "Origin", "Referer"}
	r := httptest.NewRequest(http.MethodPost, "http://gateway/v1/chat/completions", nil)
	for _, name := range secret {
		r.Header.Set(name, "alice")
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := (&outside{base: base}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	for _, name := range secret {
		if seen.Get(name) != "" {
			t.Errorf("it is told %s", name)
		}
	}
	if seen.Get("Content-Type") != "application/json" {
		t.Error("it is not told what the body is")
	}
}
