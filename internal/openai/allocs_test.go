//go:build !race

package openai

import "testing"

// The race detector allocates by itself, so this file is left out of its runs.

func TestAllocs(t *testing.T) {
	body := []byte(`{"model":"a","messages":[{"role":"user","content":"hi \u00e9 模"}],"\u0061bc":1,"chat_template_kwargs":{"enable_thinking":true},"stream":true}`)
	fields, err := Scan(body)
	if err != nil {
		t.Fatal(err)
	}
	defaults := mustDefaults(t, someDefaults)
	check := func(name string, want float64, do func()) {
		t.Helper()
		if got := testing.AllocsPerRun(100, do); got != want {
			t.Errorf("%s: %v allocations, want %v", name, got, want)
		}
	}
	check("Find", 0, func() {
		if _, ok := Find("/v1/chat/completions"); !ok {
			t.Error("not found")
		}
		if _, ok := Find("/collective_rpc"); ok {
			t.Error("found")
		}
		if _, ok := Find("/v1/responses/resp_0123456789abcdef/cancel"); !ok {
			t.Error("not found")
		}
	})
	check("Scan", 0, func() {
		if _, err := Scan(body); err != nil {
			t.Error(err)
		}
	})
	check("Apply without a change", 0, func() {
		if _, err := (Edit{Model: "a"}).Apply(nil, body, &fields); err != nil {
			t.Error(err)
		}
	})
	check("Apply", 1, func() {
		if _, err := (Edit{Model: "b", Defaults: defaults}).Apply(nil, body, &fields); err != nil {
			t.Error(err)
		}
	})
	dst := make([]byte, 0, 1024)
	check("Apply into a buffer", 0, func() {
		if _, err := (Edit{Model: "b", Defaults: defaults}).Apply(dst, body, &fields); err != nil {
			t.Error(err)
		}
	})
}
