package openai

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func equalJSON(a, b any) bool { return reflect.DeepEqual(a, b) }

func mustDefaults(t testing.TB, text string) *Defaults {
	t.Helper()
	if text == "" {
		return nil
	}
	d, err := ParseDefaults([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const someDefaults = `{"temperature":0.5,"chat_template_kwargs":{"enable_thinking":false,"deep":{"x":[1]}}}`

func TestApply(t *testing.T) {
	tests := []struct{ name, body, model, defaults, want string }{
		{"nothing to do", `{"model":"a"}`, "a", "", `{"model":"a"}`},
		{"model left alone", `{"model":"a"}`, "", "", `{"model":"a"}`},
		{"same model, escaped", `{"model":"\u0061"}`, "a", "", `{"model":"\u0061"}`},
		{"alias", `{ "a" : 1, "model" : "gpt" , "b":2}`, "real", "", `{ "a" : 1, "model" : "real" , "b":2}`},
		{"model null", `{"model":null,"b":2}`, "a", "", `{"model":"a","b":2}`},
		{"model empty", `{"model":""}`, "a", "", `{"model":"a"}`},
		{"model absent", `{"b":2 }`, "a", "", `{"b":2 ,"model":"a"}`},
		{"model absent from nothing", `{ }`, "a", "", `{ "model":"a"}`},
		{"name to be escaped", `{"model":"x"}`, "a\"\\\n\x01é", "", `{"model":"a\"\\\n\u0001é"}`},
		{"mark and space dropped", "\uFEFF \n{\"model\":\"a\"}\n", "a", "", `{"model":"a"}`},
		{"mark dropped in a change", "\uFEFF {\"model\":\"a\"}\n", "b", "", `{"model":"b"}`},
		{"priority alone", `{"priority":5}`, "", "", `{}`},
		{"priority alone in space", `{ "priority" : 5 }`, "", "", `{ }`},
		{"priority first", `{"priority":5, "a":1}`, "", "", `{"a":1}`},
		{"priority last", `{"a":1 , "priority":{"x":[1,2]} }`, "", "", `{"a":1 }`},
		{"priority between", `{"a":1 , "priority":5 , "b":2}`, "", "", `{"a":1 , "b":2}`},
		{"priority after alias", `{"model":"x","priority":5,"b":2}`, "a", "", `{"model":"a","b":2}`},
		{"priority before alias", `{"priority":5,"model":"x"}`, "a", "", `{"model":"a"}`},
		{"escaped priority", `{"a":1,"\u0070riority":5}`, "", "", `{"a":1}`},
		{"nested priority stays", `{"a":{"priority":5}}`, "", "", `{"a":{"priority":5}}`},
		{"priority out, model in", `{"priority":5}`, "a", "", `{"model":"a"}`},
		{"defaults into nothing", `{}`, "", `{"a":1,"b":[ 2 ]}`, `{"a":1,"b":[2]}`},
		{"defaults after priority", `{"priority":1}`, "", `{"a":1}`, `{"a":1}`},
		{"defaults and model", `{}`, "m", `{"a":1}`, `{"model":"m","a":1}`},
		{"caller wins", `{"a":9,"b":null}`, "", `{"a":1,"b":2}`, `{"a":9,"b":null}`},
		{"caller wins by an escaped key", `{"\u0061":9}`, "", `{"a":1}`, `{"\u0061":9}`},
		{"escaped default", `{"a":9}`, "", `{"\u0061":1}`, `{"a":9}`},
		{"one missing", `{"a":9}`, "", `{"a":1,"b":2}`, `{"a":9,"b":2}`},
		{"key by key", `{"k":{"x":1}}`, "", `{"k":{"x":0,"y":0}}`, `{"k":{"x":1,"y":0}}`},
		{"key by key, deeper", `{"k":{"d":{"x":1},"z":[{}]}}`, "", `{"k":{"d":{"x":0,"y":0},"e":1}}`, `{"k":{"d":{"x":1,"y":0},"z":[{}],"e":1}}`},
		{"into an empty object", `{"k":{ } ,"m":1}`, "", `{"k":{"y":0}}`, `{"k":{ "y":0} ,"m":1}`},
		{"nothing into an object", `{"k":{}}`, "", `{"k":{}}`, `{"k":{}}`},
		{"caller's value is no object", `{"k":[]}`, "", `{"k":{"y":0}}`, `{"k":[]}`},
		{"caller's value is an object", `{"k":{}}`, "", `{"k":3}`, `{"k":{}}`},
		{"keys that defaults do not touch", `{"k":{"a":1,"a":2}}`, "", `{"k":{"y":0}}`, `{"k":{"a":1,"a":2,"y":0}}`},
		{"a limit as default", `{"max_tokens":7}`, "", `{"max_tokens":1,"n":2}`, `{"max_tokens":7,"n":2}`},
		{"all at once", `{"priority":1,"k":{"a":1},"model":"x","b":2}`, "m", `{"k":{"y":0},"c":3}`, `{"k":{"a":1,"y":0},"model":"m","b":2,"c":3}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := []byte(tt.body)
			f, err := Scan(body)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Edit{Model: tt.model, Defaults: mustDefaults(t, tt.defaults)}.Apply(nil, body, &f)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestApplyRefusesAmbiguousDefaults(t *testing.T) {
	for body, param := range map[string]string{
		`{"temperature":1,"temperature":2}`:                          "temperature",
		`{"chat_template_kwargs":{},"chat_template_kwargs":{}}`:      "chat_template_kwargs",
		`{"chat_template_kwargs":{"deep":1,"\u0064eep":2}}`:          "deep",
		`{"chat_template_kwargs":{"deep":{"x":1,"y":2,"x":3}}}`:      "x",
		`{"chat_template_kwargs":{"a":1,"a":1,"deep":{},"deep":{}}}`: "deep",
	} {
		f, err := Scan([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		_, err = Edit{Model: "m", Defaults: mustDefaults(t, someDefaults)}.Apply(nil, []byte(body), &f)
		e, ok := errors.AsType[Error](err)
		if !ok || e.Status != 400 || e.Param != param {
			t.Errorf("%s: %v, want a 400 on %s", body, err, param)
		}
	}
}

func TestApplyManyMembers(t *testing.T) {
	var b strings.Builder
	b.WriteString("{")
	for range maxMembers - 3 {
		b.WriteString(`"x":1,`)
	}
	body := []byte(b.String() + `"priority":1,"model":"a","k":{}}`)
	want := b.String() + `"model":"b","k":{"y":0}}`
	f, err := Scan(body)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Edit{Model: "b", Defaults: mustDefaults(t, `{"k":{"y":0}}`)}.Apply(nil, body, &f)
	if err != nil || string(got) != want {
		t.Errorf("%v, %d bytes, want %d", err, len(got), len(want))
	}
}

func TestApplyReusesBuffer(t *testing.T) {
	body := []byte(`{"model":"a"}`)
	f, _ := Scan(body)
	dst := []byte(strings.Repeat("z", 200))
	got, err := Edit{Model: "b"}.Apply(dst, body, &f)
	if err != nil || string(got) != `{"model":"b"}` || &got[0] != &dst[0] {
		t.Errorf("%q, %v", got, err)
	}
	same, _ := Edit{Model: "a"}.Apply(dst, body, &f)
	if &same[0] != &body[0] {
		t.Error("an unchanged body is copied")
	}
}

func TestParseDefaults(t *testing.T) {
	d := mustDefaults(t, " {\"a\" : [1, 2],\n\"b\":{\"c\":{}}} ")
	if d.String() != `{"a":[1,2],"b":{"c":{}}}` {
		t.Error(d)
	}
	mustDefaults(t, `{}`)
	mustDefaults(t, `{"b":{"model":"x","priority":1,"stream":true}}`)

	var many strings.Builder
	for i := range maxDefaults + 1 {
		many.WriteString(`"` + strings.Repeat("k", i+1) + `":1,`)
	}
	for text, want := range map[string]string{
		``:                    "ends too early",
		`{"a":1`:              "ends too early, at byte 6",
		`{"a":1} x`:           "more text",
		`[]`:                  "must be a JSON object",
		`"a"`:                 "must be a JSON object",
		`{"a":NaN}`:           "not valid JSON",
		"{\"a\":\"\xff\"}":    "invalid UTF-8",
		`{"a":1,"\u0061":2}`:  "a occurs twice",
		`{"a":{"b":1,"b":2}}`: "a.b occurs twice",
		`{"model":"x"}`:       "model is set by the gateway",
		`{"\u006dodel":"x"}`:  "model is set by the gateway",
		`{"priority":1}`:      "priority is set by the gateway",
		`{"stream":false}`:    "stream is the caller's choice",
		`{"\ud800":1}`:        "half a surrogate pair",
		"{" + strings.TrimSuffix(many.String(), ",") + "}": "more than 64 keys",
	} {
		if _, err := ParseDefaults([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func FuzzSplice(f *testing.F) {
	for i, s := range nasty {
		f.Add([]byte(s), []string{"", "m", "a\"\n"}[i%3], []byte(someDefaults))
		f.Add([]byte(s), "m", []byte(`{}`))
		f.Add([]byte(s), "", []byte(`{"max_tokens":5,"a":{"b":{"c":1}},"n":null}`))
	}
	f.Fuzz(func(t *testing.T, body []byte, model string, defaultsText []byte) {
		fields, err := Scan(body)
		if err != nil || !utf8.ValidString(model) {
			return
		}
		want, err := refScan(body)
		if err != nil {
			t.Fatal(err)
		}
		defaults, err := ParseDefaults(defaultsText)
		if err != nil {
			defaults = nil
			defaultsText = []byte(`{}`)
		}
		// The reference takes half a pair for U+FFFD, and could find it among the defaults.
		if bytes.ContainsRune(defaultsText, utf8.RuneError) || bytes.Contains(bytes.ToLower(defaultsText), []byte("fffd")) {
			return
		}
		refDefaults, err := refDecode(defaultsText)
		if err != nil {
			t.Fatalf("ParseDefaults accepts %q: %v", defaultsText, err)
		}
		wantValue, refErr := refApply(want.object, model, refDefaults.([]refPair))

		before := bytes.Clone(body)
		edit := Edit{Model: model, Defaults: defaults}
		got, err := edit.Apply(nil, body, &fields)
		if !bytes.Equal(body, before) {
			t.Fatal("Apply writes to the body")
		}
		if (err == nil) != (refErr == nil) {
			t.Fatalf("Apply(%q, %q, %q): %v; the reference: %v", body, model, defaultsText, err, refErr)
		}
		if err != nil {
			return
		}
		gotValue, err := refDecode(got)
		if err != nil {
			t.Fatalf("Apply(%q, %q, %q) gives %q: %v", body, model, defaultsText, got, err)
		}
		if !equalJSON(refPlainMaps(gotValue), wantValue) {
			t.Fatalf("Apply(%q, %q, %q) gives %q", body, model, defaultsText, got)
		}

		// What comes out is clean: the same edit finds nothing to do.
		again, err := Scan(got)
		if err != nil {
			t.Fatal(err)
		}
		if model != "" && string(again.Model) != model || again.Has(KeyPriority) || again.Stream != fields.Stream {
			t.Fatalf("Apply(%q, %q) gives %q", body, model, got)
		}
		if twice, err := edit.Apply(nil, got, &again); err != nil || &twice[0] != &got[0] {
			t.Fatalf("a second Apply changes %q to %q (%v)", got, twice, err)
		}
	})
}
