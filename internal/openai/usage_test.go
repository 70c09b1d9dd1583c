package openai

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestFindUsage(t *testing.T) {
	tests := []struct {
		name, text string
		want       Usage
		found      bool
	}{
		{"chat", `{"id":"x","choices":[],"usage":{"prompt_tokens":9,"total_tokens":21,"completion_tokens":12,"prompt_tokens_details":null}}`, Usage{9, 12}, true},
		{"embeddings", `{"data":[],"usage":{"prompt_tokens":5,"total_tokens":5}}`, Usage{5, 0}, true},
		{"messages", `{"type":"message_delta","usage":{"input_tokens":3,"output_tokens":4}}`, Usage{3, 4}, true},
		{"cut off in front", `ge":null,"usage" : { "prompt_tokens" : 1 , "completion_tokens" : 2 } , "x":1}`, Usage{1, 2}, true},
		{"stream", "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n", Usage{1, 2}, true},
		{"the last counts", `{"usage":{"prompt_tokens":1}} {"usage":{"prompt_tokens":2}}`, Usage{2, 0}, true},
		{"null after one", `{"usage":{"prompt_tokens":1}} {"usage":null}`, Usage{1, 0}, true},
		{"in a string", `{"content":"\"usage\":{\"prompt_tokens\":7}"}`, Usage{}, false},
		{"a value", `{"object":"usage"}`, Usage{}, false},
		{"none", `{}`, Usage{}, false},
		{"empty", `{"usage":{}}`, Usage{}, false},
		{"cut off", `{"usage":{"prompt_tokens":1,`, Usage{}, false},
		{"no numbers", `{"usage":{"prompt_tokens":"1","completion_tokens":-2,"x":1.5}}`, Usage{}, false},
		{"too large", `{"usage":{"prompt_tokens":99999999999999999999,"completion_tokens":3}}`, Usage{0, 3}, true},
	}
	for _, tt := range tests {
		if got, found := FindUsage([]byte(tt.text)); got != tt.want || found != tt.found {
			t.Errorf("%s: %+v, %t", tt.name, got, found)
		}
	}
}

// Of a text that is JSON, what is found is what a decoder finds.
func FuzzFindUsage(f *testing.F) {
	f.Add(`{"usage":{"prompt_tokens":9,"completion_tokens":12}}`)
	f.Add(`{"usage":{"input_tokens":1,"details":{"usage":[1,{}]},"output_tokens":2}}`)
	f.Add(`{"a":"\"usage\":{","usage":{"prompt_tokens":3}}`)
	f.Add(`{"usage":`)
	f.Fuzz(func(t *testing.T, text string) {
		u, found := FindUsage([]byte(text))
		if u.Prompt < 0 || u.Output < 0 || !found && u != (Usage{}) {
			t.Fatalf("%+v, %t", u, found)
		}
		var v any
		if !found || json.Unmarshal([]byte(text), &v) != nil {
			return
		}
		if !hasUsage(v) {
			t.Errorf("%+v is found, and no decoder finds it", u)
		}
	})
}

// hasUsage says whether a decoded value has the key usage with an object, anywhere.
func hasUsage(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["usage"].(map[string]any); ok {
			return true
		}
		for _, x := range v {
			if hasUsage(x) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, hasUsage)
	}
	return false
}
