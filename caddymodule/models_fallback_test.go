package caddymodule

import (
	"strings"
	"testing"
)

// What the handlers get of fallbacks, and that a key stands in no configuration.
func TestFallbacks(t *testing.T) {
	t.Setenv("FALLBACK_KEY", "sk-secret")
	config, _, err := adapt(vrammanFile(`
		defaults {
			vram 1GiB
			fallback https://api.example.com/openai/v1/
			fallback_key {env.FALLBACK_KEY}
		}
		model a {
			repo r
			fallback b
		}
		model b {
			repo r
		}
		model c {
			repo r
			fallback http://10.0.0.2:8000
			fallback_model d
		}
		model e {
			repo r
			fallback https://api.example.com/v1
			fallback_key {env.FALLBACK_KEY_THAT_IS_NOT_SET}
		}`))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(config), "sk-secret") {
		t.Errorf("the key stands in %s", config)
	}
	a := provision(t, config)
	if f := a.fallbacks["a"]; f == nil || f.model != "b" || f.outside != nil {
		t.Errorf("a falls back to %+v", f)
	}
	for name, want := range map[string]string{
		"b": "https://api.example.com/openai b Bearer sk-secret",
		"c": "http://10.0.0.2:8000 d ",
		"e": "https://api.example.com e ",
	} {
		f := a.fallbacks[name]
		if f == nil || f.outside == nil {
			t.Errorf("%s falls back to %+v", name, f)
			continue
		}
		if got := f.outside.base.String() + " " + f.outside.model + " " + f.outside.authorization; got != want {
			t.Errorf("%s falls back to %q, want %q", name, got, want)
		}
	}
}

// A fallback of the defaults that is a model is none for that model itself.
func TestFallbackOfTheDefaults(t *testing.T) {
	config, _, err := adapt(vrammanFile("defaults {\n vram 1GiB\n fallback b\n}\nmodel a {\n repo r\n}\nmodel b {\n repo r\n}"))
	if err != nil {
		t.Fatal(err)
	}
	a := provision(t, config)
	if a.fallbacks["a"] == nil || a.fallbacks["b"] != nil {
		t.Errorf("the fallbacks are %+v", a.fallbacks)
	}
}
