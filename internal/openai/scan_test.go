package openai

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestScanReadsModelAndStream(t *testing.T) {
	tests := []struct {
		name, body, model string
		stream            bool
	}{
		{"plain", `{"model":"a","stream":true}`, "a", true},
		{"white space everywhere", " \t\r\n{ \"model\" :\n\"a\"\t, \"stream\" : true }\r\n ", "a", true},
		{"model last", `{"messages":[{"role":"user","content":"hi"}],"stream":false,"model":"a"}`, "a", false},
		{"empty object", `{}`, "", false},
		{"no model", `{"messages":[]}`, "", false},
		{"model null", `{"model":null,"stream":null}`, "", false},
		{"model empty", `{"model":""}`, "", false},
		{"escaped key", `{"\u006dodel":"a"}`, "a", false},
		{"wholly escaped key", `{"\u0073\u0074\u0072\u0065\u0061\u006d":true}`, "", true},
		{"escaped value", `{"model":"\u0061\/b\"\\\n"}`, "a/b\"\\\n", false},
		{"surrogate pair", `{"model":"\ud83d\uDE00!"}`, "😀!", false},
		{"not ASCII", `{"model":"模型-é-😀"}`, "模型-é-😀", false},
		{"nested model", `{"a":{"model":"b","stream":true},"messages":[{"model":"c"}],"model":"a"}`, "a", false},
		{"model inside a string", `{"a":"\",\"model\":\"b\"","model":"a"}`, "a", false},
		{"another case", `{"Model":"b","MODEL":"c","STREAM":true,"model":"a"}`, "a", false},
		{"prefixes", `{"mode":"b","models":"c","model ":"d"}`, "", false},
		{"byte order mark", "\uFEFF" + `{"model":"a"}`, "a", false},
		{"Python's numbers", `{"a":NaN,"b":[Infinity,-Infinity],"model":"a"}`, "a", false},
		{"numbers", `{"a":[0,-0,1.5,-1e5,1E+5,2e-0,12345678901234567890],"model":"a"}`, "a", false},
		{"delete is no control character", "{\"model\":\"a\u007f\"}", "a\u007f", false},
		{"lone surrogate elsewhere", `{"\ud800":"\udc00","model":"a"}`, "a", false},
		{"unmanaged key twice", `{"a":1,"a":2,"model":"a"}`, "a", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Scan([]byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if string(f.Model) != tt.model || f.Stream != tt.stream {
				t.Errorf("model %q, stream %v; want %q, %v", f.Model, f.Stream, tt.model, tt.stream)
			}
		})
	}
}

func TestScanRefuses(t *testing.T) {
	deep := strings.Repeat("[", maxDepth)
	tests := []struct{ name, body, message, param string }{
		{"empty", ``, "the body is empty", ""},
		{"white space", " \n", "the body is empty", ""},
		{"byte order mark alone", "\uFEFF", "the body is empty", ""},
		{"array", `[{"model":"a"}]`, "not a JSON object", ""},
		{"string", `"model"`, "not a JSON object", ""},
		{"word", `model=a`, "a value is expected, at byte 0", ""},
		{"trailing comma", `{"model":"a",}`, "a key in double quotes is expected, at byte 13", ""},
		{"trailing object", `{"model":"a"}{}`, "more text after the object, at byte 13", ""},
		{"trailing NUL", "{\"model\":\"a\"}\x00", "more text after the object, at byte 13", ""},
		{"two byte order marks", "\uFEFF\uFEFF{}", "a value is expected, at byte 3", ""},
		{"form feed", "{\f}", "a key in double quotes is expected, at byte 1", ""},
		{"no-break space", "{\"a\":\u00a01}", "a value is expected, at byte 5", ""},
		{"UTF-16 with mark", "\xff\xfe{\x00}\x00", "UTF-16", ""},
		{"UTF-16", "{\x00}\x00", "UTF-16", ""},
		{"UTF-16 big endian", "\x00{\x00}", "UTF-16", ""},
		{"truncated in key", `{"mod`, "it ends too early, at byte 5", ""},
		{"truncated in value", `{"model":"a`, "it ends too early, at byte 11", ""},
		{"truncated in escape", `{"model":"\u00`, "it ends too early, at byte 14", ""},
		{"truncated in character", "{\"model\":\"\xe6\xa8", "it ends too early, at byte 12", ""},
		{"truncated in literal", `{"a":tru`, "it ends too early, at byte 8", ""},
		{"truncated in number", `{"a":-`, "it ends too early, at byte 6", ""},
		{"truncated after fraction", `{"a":1.`, "it ends too early, at byte 7", ""},
		{"truncated after exponent", `{"a":1e+`, "it ends too early, at byte 8", ""},
		{"truncated in array", `{"a":[1,`, "it ends too early, at byte 8", ""},
		{"truncated after value", `{"a":[1]`, "it ends too early, at byte 8", ""},
		{"truncated after brace", `{`, "it ends too early, at byte 1", ""},
		{"truncated inside", `{"a":{`, "it ends too early, at byte 6", ""},
		{"truncated before colon", `{"a"`, "it ends too early, at byte 4", ""},
		{"truncated after colon", `{"a":`, "it ends too early, at byte 5", ""},
		{"wrong closing", `{"a":[1}}`, `"," or "]" is expected, at byte 7`, ""},
		{"wrong closing of object", `{"a":{"b":1]}`, `"," or "}" is expected, at byte 11`, ""},
		{"no comma", `{"a":1 "b":2}`, `"," or "}" is expected, at byte 7`, ""},
		{"no colon", `{"a" 1}`, `":" is expected after a key, at byte 5`, ""},
		{"no key", `{1:2}`, "a key in double quotes is expected, at byte 1", ""},
		{"single quotes", `{'model':'a'}`, "a key in double quotes is expected, at byte 1", ""},
		{"comment", `{/**/}`, "a key in double quotes is expected, at byte 1", ""},
		{"leading comma in array", `{"a":[,1]}`, "a value is expected, at byte 6", ""},
		{"leading zero", `{"a":01}`, `"," or "}" is expected, at byte 6`, ""},
		{"plus", `{"a":+1}`, "a value is expected, at byte 5", ""},
		{"bare fraction", `{"a":.5}`, "a value is expected, at byte 5", ""},
		{"bare exponent", `{"a":1e}`, "invalid number, at byte 7", ""},
		{"bare minus", `{"a":-}`, "invalid number, at byte 6", ""},
		{"minus NaN", `{"a":-NaN}`, "invalid number, at byte 6", ""},
		{"nan", `{"a":nan}`, "a value is expected, at byte 5", ""},
		{"True", `{"a":True}`, "a value is expected, at byte 5", ""},
		{"newline in string", "{\"model\":\"a\n\"}", "control character in a string, at byte 11", ""},
		{"control far inside", `{"model":"` + strings.Repeat("a", 61) + "\x1f\"}", "control character in a string, at byte 71", ""},
		{"unknown escape", `{"a":"\x41"}`, "invalid escape in a string, at byte 6", ""},
		{"escape with sign", `{"a":"\u+123"}`, "invalid escape in a string, at byte 6", ""},
		{"stray byte", "{\"a\":\"\xff\"}", "invalid UTF-8, at byte 6", ""},
		{"stray continuation", "{\"a\":\"aa\x80aaaa\"}", "invalid UTF-8, at byte 8", ""},
		{"overlong", "{\"a\":\"\xc0\x80aa\"}", "invalid UTF-8, at byte 6", ""},
		{"overlong of three", "{\"a\":\"\xe0\x9f\xbfaa\"}", "invalid UTF-8, at byte 6", ""},
		{"overlong of four", "{\"a\":\"\xf0\x8f\xbf\xbfaa\"}", "invalid UTF-8, at byte 6", ""},
		{"surrogate in UTF-8", "{\"a\":\"\xed\xa0\x80aa\"}", "invalid UTF-8, at byte 6", ""},
		{"beyond Unicode", "{\"a\":\"\xf4\x90\x80\x80aa\"}", "invalid UTF-8, at byte 6", ""},
		{"invalid in key", "{\"a\xff\":1}", "invalid UTF-8, at byte 3", ""},
		{"too deep", `{"a":` + deep, fmt.Sprintf("nested too deeply, at byte %d", 4+maxDepth), ""},
		{"model twice", `{"model":"a","x":1,"model":"a"}`, "model occurs twice", "model"},
		{"model twice, once escaped", `{"model":"a","\u006dode\u006C":"b"}`, "model occurs twice", "model"},
		{"model twice, once null", `{"model":null,"model":"b"}`, "model occurs twice", "model"},
		{"stream twice", `{"stream":true,"stream":false}`, "stream occurs twice", "stream"},
		{"priority twice", `{"priority":0,"priority":9}`, "priority occurs twice", "priority"},
		{"limit twice", `{"max_tokens":1,"max_tokens":9}`, "max_tokens occurs twice", "max_tokens"},
		{"number as model", `{"model":1}`, "model must be a string", "model"},
		{"object as model", `{"model":{"model":"a"}}`, "model must be a string", "model"},
		{"NaN as model", `{"model":NaN}`, "model must be a string", "model"},
		{"half a pair in model", `{"model":"a\ud83d"}`, "half a surrogate pair", "model"},
		{"wrong pair in model", `{"model":"\ud83d\u0041"}`, "half a surrogate pair", "model"},
		{"string as stream", `{"stream":"true"}`, "stream must be true or false", "stream"},
		{"number as stream", `{"stream":1}`, "stream must be true or false", "stream"},
		{"too many keys", "{" + strings.Repeat(`"a":1,`, maxMembers) + `"b":1}`, "more than 1024 top-level keys", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Scan([]byte(tt.body))
			e, ok := errors.AsType[Error](err)
			if !ok {
				t.Fatalf("Scan gives %v, want an Error", err)
			}
			if e.Status != http.StatusBadRequest || e.Code != CodeInvalidBody || e.Param != tt.param || !strings.Contains(e.Message, tt.message) {
				t.Errorf("got %+v, want param %q and %q", e, tt.param, tt.message)
			}
		})
	}
}

func TestScanDeepest(t *testing.T) {
	n := maxDepth - 1 // the body's own object is one
	for _, body := range []string{
		`{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`,
		`{"a":` + strings.Repeat(`{"a":`, n) + `1` + strings.Repeat("}", n) + `}`,
		`{"a":` + strings.Repeat(`[{"a":`, n/2) + `1` + strings.Repeat("}]", n/2) + `}`,
	} {
		if _, err := Scan([]byte(body)); err != nil {
			t.Error(err)
		}
	}
}

// TestScanEveryCut cuts a body at every place: no part is a body, and none makes
// Scan read past the end.
func TestScanEveryCut(t *testing.T) {
	body := []byte(`{"messages":[{"role":"user","content":"é模😀\n\u00e9 and a text that is longer than a few words"}],` +
		`"t":[true,false,null,NaN,-Infinity,-1.25e+3],"model":"a\u0062","stream":true}`)
	if _, err := Scan(body); err != nil {
		t.Fatal(err)
	}
	for n := range body {
		if _, err := Scan(body[:n:n]); err == nil {
			t.Errorf("cut at %d is accepted", n)
		}
	}
}

// TestScanStringAtEveryOffset moves what ends or breaks a string through the steps
// in which strings are skipped.
func TestScanStringAtEveryOffset(t *testing.T) {
	for n := range 100 {
		for _, mark := range []string{"\"", "\\n", "\x01", "é", "模", "😀", "\xff", "\u007f", "\\ud83d\\ude00"} {
			body := []byte(`{"a":"` + strings.Repeat("x", n) + mark + `","model":"m"}`)
			_, want := refScan(body)
			f, err := Scan(body)
			if (err == nil) != (want == nil) {
				t.Fatalf("%s: %v, want %v", body, err, want)
			}
			if err == nil && string(f.Model) != "m" {
				t.Fatalf("%s: model %q", body, f.Model)
			}
		}
	}
}

// TestScanUTF8 compares every start of a character with package unicode/utf8,
// within a run and at the end of one.
func TestScanUTF8(t *testing.T) {
	seconds := []byte{0x00, 0x22, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff}
	for lead := 0x80; lead <= 0xff; lead++ {
		for _, b2 := range seconds {
			for _, b3 := range seconds {
				for _, b4 := range seconds {
					for _, rest := range []string{"", "模aa"} {
						text := append([]byte{byte(lead), b2, b3, b4}, rest...)
						if bytes.ContainsAny(text, "\x00\"") {
							continue
						}
						body := append(append([]byte(`{"a":"`), text...), `"}`...)
						if _, err := Scan(body); (err == nil) != utf8.Valid(text) {
							t.Fatalf("% x: %v", text, err)
						}
					}
				}
			}
		}
	}
}

func TestFieldsValue(t *testing.T) {
	body := []byte(`{"max_tokens": 12,"n":"x","priority":[1, 2],"max_output_tokens":null}`)
	f, err := Scan(body)
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range map[Key]string{
		KeyMaxTokens: "12", KeyN: `"x"`, KeyPriority: "[1, 2]", KeyMaxOutputTokens: "null",
		KeyModel: "", KeyMaxCompletionTokens: "",
	} {
		if got := f.Value(body, k); string(got) != want || f.Has(k) != (want != "") {
			t.Errorf("%v: %q, want %q", k, got, want)
		}
	}
}

// nasty are the seeds of both fuzz tests: the bodies of the tables above, and a
// few that are built like real ones.
var nasty = []string{
	``, `{}`, `[]`, ` { } `, `{"model":"a"}`, `{"model":null}`, `{"model":""}`, `{"model":1}`,
	`{"\u006dodel":"a","model":"b"}`, `{"model":"\ud83d\ude00\n"}`, `{"model":"\ud83d"}`, "{\"model\":\"\xff\"}",
	"\uFEFF" + `{"model":"a"}`, "\xff\xfe{\x00}\x00", `{"a":NaN,"b":-Infinity,"model":"a"}`, `{"a":-NaN}`, `{"a":NaN1}`,
	`{"model":"a","stream":true,"priority":5}`, `{"priority":5,"model":"a"}`, `{"priority":5}`, ` {"a":1 , "priority" : 5 } `,
	`{"stream":"true"}`, `{"max_tokens":1,"max_tokens":2}`, `{"a":1,"a":2}`, `{"a":01}`, `{"a":1.}`, `{"a":1e}`, `{"a":-}`,
	`{"model":"a",}`, `{"model":"a"}x`, `{"model" "a"}`, `{"a":[1,2,{"b":[]}],"c":{}}`, `{"a":"\u12G4"}`, `{"a":"\x"}`,
	`{"chat_template_kwargs":{"enable_thinking":true},"model":"a"}`, `{"chat_template_kwargs":{}}`,
	`{"chat_template_kwargs":{"deep":{ }, "x":1 } ,"temperature":null}`, `{"chat_template_kwargs":{},"chat_template_kwargs":{}}`,
	`{"chat_template_kwargs":{"deep":{"a":1},"deep":{}}}`, `{"chat_template_kwargs":null}`, `{"chat_template_kwargs":[{}]}`,
	`{"model":"m","messages":[{"role":"system","content":"You are\nhelpful."},{"role":"user","content":[{"type":"text","text":"\u4f60好"}]}],"temperature":0.7,"stream":true,"stream_options":{"include_usage":true}}`,
	`{"input":[[1,2,3],[4,5,6]],"model":"e","encoding_format":"base64"}`,
}

func FuzzScan(f *testing.F) {
	for _, s := range nasty {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		got, err := Scan(body)
		if !bytes.Equal(body, before) {
			t.Fatal("Scan writes to the body")
		}
		want, refErr := refScan(body)
		if err != nil && refErr == nil {
			// The reference cannot see half a pair: encoding/json makes it U+FFFD.
			if !strings.Contains(err.Error(), "half a surrogate pair") || !strings.ContainsRune(want.model, utf8.RuneError) {
				t.Fatalf("Scan(%q): %v; the reference accepts it", body, err)
			}
			return
		}
		if (err == nil) != (refErr == nil) {
			t.Fatalf("Scan(%q) accepts it; the reference: %v", body, refErr)
		}
		if err != nil {
			if _, ok := errors.AsType[Error](err); !ok {
				t.Fatalf("not an Error: %v", err)
			}
			return
		}
		if string(got.Model) != want.model || got.Stream != want.stream || got.count != len(want.object) {
			t.Fatalf("Scan(%q): model %q, stream %v, %d members; want %q, %v, %d",
				body, got.Model, got.Stream, got.count, want.model, want.stream, len(want.object))
		}
		for k := range numKeys {
			values := refValues(want.object, k.String())
			if got.Has(k) != (len(values) == 1) {
				t.Fatalf("Scan(%q): has %v: %v", body, k, got.Has(k))
			}
			if v := got.Value(body, k); v != nil {
				v, err := refDecode(v)
				if err != nil || !equalJSON(refPlainMaps(v), refPlainMaps(values[0])) {
					t.Fatalf("Scan(%q): %v is %v (%v), want %v", body, k, v, err, values[0])
				}
			}
		}
	})
}
