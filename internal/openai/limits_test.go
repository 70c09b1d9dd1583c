package openai

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestLimits(t *testing.T) {
	both := Limits{MaxTokens: 100, N: 2}
	tests := []struct {
		name   string
		limits Limits
		body   string
		want   string // empty: refused
	}{
		{"absent", both, `{"a":1}`, `{"a":1}`},
		{"null", both, `{"max_tokens":null,"n":null}`, `{"max_tokens":null,"n":null}`},
		{"below", both, `{"max_tokens":99,"n":1}`, `{"max_tokens":99,"n":1}`},
		{"at it", both, `{"max_tokens":100,"n":2,"best_of":2}`, `{"max_tokens":100,"n":2,"best_of":2}`},
		{"above", both, `{"max_tokens": 101 ,"n":3,"best_of":20}`, `{"max_tokens": 100 ,"n":2,"best_of":2}`},
		{"of completions", both, `{"max_completion_tokens":4096}`, `{"max_completion_tokens":100}`},
		{"of responses", both, `{"max_output_tokens":4096,"b":1}`, `{"max_output_tokens":100,"b":1}`},
		{"both names", both, `{"max_tokens":7,"max_completion_tokens":4096}`, `{"max_tokens":7,"max_completion_tokens":100}`},
		{"escaped key", both, `{"max\u005ftokens":4096}`, `{"max\u005ftokens":100}`},
		{"a fraction", both, `{"max_tokens":100.5}`, `{"max_tokens":100}`},
		{"an exponent", both, `{"max_tokens":1e9}`, `{"max_tokens":100}`},
		{"beyond all", both, `{"max_tokens":1e999}`, `{"max_tokens":100}`},
		{"infinite", both, `{"max_tokens":Infinity}`, `{"max_tokens":100}`},
		{"no number at all", both, `{"max_tokens":NaN}`, `{"max_tokens":NaN}`},
		{"negative", both, `{"max_tokens":-1}`, `{"max_tokens":-1}`},
		{"shorter than the limit", Limits{MaxTokens: 123456789}, `{"max_tokens":9e9,"max_completion_tokens":9e9,"max_output_tokens":9e9}`, `{"max_tokens":123456789,"max_completion_tokens":123456789,"max_output_tokens":123456789}`},
		{"nested", both, `{"x":{"max_tokens":4096}}`, `{"x":{"max_tokens":4096}}`},
		{"no limit", Limits{}, `{"max_tokens":"4096","n":99}`, `{"max_tokens":"4096","n":99}`},
		{"the other limit", Limits{N: 2}, `{"max_tokens":4096,"n":99}`, `{"max_tokens":4096,"n":2}`},
		{"a text", both, `{"max_tokens":"4096"}`, ""},
		{"a list", both, `{"n":[3]}`, ""},
		{"true", both, `{"n":true}`, ""},
	}
	for _, tt := range tests {
		f, err := Scan([]byte(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Edit{Limits: tt.limits}.Apply(nil, []byte(tt.body), &f)
		if tt.want == "" {
			if e := AsError(err); err == nil || e.Status != 400 || e.Param == "" {
				t.Errorf("%s: %s, %v", tt.name, got, err)
			}
		} else if err != nil || string(got) != tt.want {
			t.Errorf("%s: %s, %v, want %s", tt.name, got, err, tt.want)
		}
	}
}

// With limits beside all other changes, the result is what a decoder would make
// of it, and is made with one allocation.
func TestLimitsBesideOtherChanges(t *testing.T) {
	body := []byte(`{"priority":1,"max_tokens":9e9,"model":"x","k":{"a":1},"n":9}`)
	f, err := Scan(body)
	if err != nil {
		t.Fatal(err)
	}
	edit := Edit{Model: "m", Defaults: mustDefaults(t, `{"k":{"b":2},"max_tokens":5,"c":3}`), Limits: Limits{MaxTokens: 1000000, N: 1}}
	got, err := edit.Apply(nil, body, &f)
	if want := `{"max_tokens":1000000,"model":"m","k":{"a":1,"b":2},"n":1,"c":3}`; err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}

func TestEveryLimitedKeyTwiceIsRefused(t *testing.T) {
	for _, k := range []Key{KeyMaxTokens, KeyMaxCompletionTokens, KeyMaxOutputTokens, KeyN, KeyBestOf} {
		name, _ := json.Marshal(k.String())
		body := strings.ReplaceAll(`{KEY:1,KEY:2}`, "KEY", string(name))
		if _, err := Scan([]byte(body)); err == nil || AsError(err).Param != k.String() {
			t.Errorf("%s: %v", body, err)
		}
	}
}
