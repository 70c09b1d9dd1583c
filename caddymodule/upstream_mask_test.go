package caddymodule

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestMask(t *testing.T) {
	for text, want := range map[string]string{
		"The model `x` does not exist.":                              "The model `x` does not exist.",
		"temperature must be in [0, 2], got 3.5":                     "temperature must be in [0, 2], got 3.5",
		"use /v1/chat/completions and/or /v1/completions":            "use /v1/chat/completions and/or /v1/completions",
		"12:30:45 of org/model at 1.2.3":                             "12:30:45 of org/model at 1.2.3",
		`File "/usr/lib/python3.12/json/decoder.py", line 355`:       `File "[path]", line 355`,
		"no such file: ~/.cache/huggingface/hub":                     "no such file: [path]",
		"path=/root/.cache/x,/opt/models/y/":                         "path=[path],[path]",
		`open C:\models\x.safetensors`:                               "open [path]",
		"cannot fetch http://10.0.0.7:8000/a?key=b, gave up":         "cannot fetch [url] gave up",
		"HTTPConnectionPool(host='10.0.0.7', port=80)":               "HTTPConnectionPool(host='[address]', port=80)",
		"refused by 10.0.0.7:8000.":                                  "refused by [address].",
		"refused by [fe80::1]:8000 and ::1 and fd00::12":             "refused by [address] and [address] and [address]",
		"tcp://127.0.0.1:5557 and localhost:8000 and a.b.internal:9": "[url] and [address] and [address]",
		"": "",
	} {
		if got := mask(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestMaskJSON(t *testing.T) {
	for body, want := range map[string]string{
		`{"error": {"message":"no","code":400}}`:            `{"error": {"message":"no","code":400}}`,
		`{"error":{"message":"in /a/b","code":1e400}}`:      `{"error":{"code":1e400,"message":"in [path]"}}`,
		`{"detail":[{"loc":["body"],"input":"\/a\/b\/c"}]}`: `{"detail":[{"input":"[path]","loc":["body"]}]}`,
	} {
		got, ok := maskJSON([]byte(body))
		if !ok || string(got) != want {
			t.Errorf("%s becomes %s, %t, want %s", body, got, ok, want)
		}
	}
	for _, body := range []string{"", "Not Found", `{"a":1} {"b":2}`, `{"a":`} {
		if _, ok := maskJSON([]byte(body)); ok {
			t.Errorf("%q is taken for JSON", body)
		}
	}
}

// Whatever a server says: what is masked stays valid, and masking it again changes
// nothing.
func FuzzMask(f *testing.F) {
	for _, text := range []string{"", "/a/b", "http://h/p", "10.0.0.1:80", "[::1]:2", "a.b:1", `C:\a`, "~/a/b /v1/x/y", "\xff/a/b"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once := mask(text)
		if twice := mask(once); twice != once {
			t.Errorf("%q becomes %q and then %q", text, once, twice)
		}
		body, err := json.Marshal(map[string]any{"error": []any{text, 1, nil}})
		if err != nil {
			t.Fatal(err)
		}
		masked, ok := maskJSON(body)
		if !ok || !json.Valid(masked) {
			t.Errorf("%s becomes %s", body, masked)
		}
		if strings.Contains(text, "http://secret.example") && bytes.Contains(masked, []byte("secret.example")) {
			t.Errorf("%s is left in %s", text, masked)
		}
	})
}
