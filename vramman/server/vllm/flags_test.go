package vllm

import (
	"reflect"
	"strings"
	"testing"
)

func TestFlags(t *testing.T) {
	for args, want := range map[string][]flag{
		"":                        nil,
		"stray":                   nil,
		"--a-b 1 --a_b=1":         {{name: "a-b", values: []string{"1"}}, {name: "a-b", values: []string{"1"}}},
		"--no-a_b -sc x -O3":      {{name: "a-b", off: true}, {name: "sc", values: []string{"x"}}, {name: "O3"}},
		"--seed -1 --t -0.5":      {{name: "seed", values: []string{"-1"}}, {name: "t", values: []string{"-0.5"}}},
		"--c.model_x=a/b --c.d 3": {{name: "c", key: "model_x", values: []string{"a/b"}}, {name: "c", key: "d", values: []string{"3"}}},
		"--l a=b c=d":             {{name: "l", values: []string{"a=b", "c=d"}}},
		"--e= --x":                {{name: "e", values: []string{""}}, {name: "x"}},
	} {
		if got := flags(strings.Fields(args)); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v", args, got)
		}
	}
	if got := flags([]string{"--text", "--with a blank"}); len(got) != 1 || got[0].value() != "--with a blank" {
		t.Errorf("%+v", got)
	}
}

func TestHumanInt(t *testing.T) {
	for text, want := range map[string]int{
		"0": 0, "8192": 8192, "8k": 8000, "8K": 8192, "1.5k": 1500, "2M": 2 << 20, "1g": 1e9, " 7 ": 7,
		"": -1, "k": -1, "-5": -1, "8x": -1, "1e3": -1, "nank": -1, "9999999999K": -1, "infk": -1, "auto": -1,
	} {
		got, ok := humanInt(text)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func FuzzFlags(f *testing.F) {
	for _, s := range []string{"--a 1", "--a=1 -b", "--", "-", "--=x", "--.x", "--no-", "-1 --x", "--a_b.c_d=e f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args := strings.Split(s, " ")
		values := 0
		for _, f := range flags(args) {
			values += len(f.values)
			_ = f.String()
		}
		if values > len(args) {
			t.Errorf("%q: %d values", args, values)
		}
		if n, ok := humanInt(s); ok && n < 0 {
			t.Errorf("%q is %d", s, n)
		}
	})
}
