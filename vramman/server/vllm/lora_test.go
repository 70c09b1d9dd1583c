package vllm

import (
	"slices"
	"strings"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

func TestAdapters(t *testing.T) {
	m := server.Model{Name: "base", Repo: "org/base", LoRA: []server.LoRA{{Name: "sql", Path: "org/sql-lora"}, {Name: "de", Path: "/srv/de"}}}
	args := Server{}.Args(m, server.Place{}, engine.Listen{Host: "127.0.0.1", Port: 1})
	if line := strings.Join(args, " "); !strings.Contains(line, "--enable-lora --lora-modules sql=org/sql-lora de=/srv/de --") {
		t.Errorf("the arguments are %s", line)
	}
	m.LoRA = nil
	if args := (Server{}).Args(m, server.Place{}, engine.Listen{}); slices.Contains(args, "--enable-lora") {
		t.Errorf("the arguments are %v", args)
	}
	for path, want := range map[string]bool{"org/sql": true, "/srv/sql": false, "./sql": false} {
		if got := fetchesAdapters(server.Model{LoRA: []server.LoRA{{Name: "a", Path: path}}}); got != want {
			t.Errorf("%s is fetched: %t", path, got)
		}
	}
	if fetchesAdapters(server.Model{}) {
		t.Error("a model without adapters fetches some")
	}
}

// What adapters take is not known, so a model with adapters is not estimated.
func TestAdaptersAreNotEstimated(t *testing.T) {
	l, err := launch(server.Model{LoRA: []server.LoRA{{Name: "a", Path: "org/a"}}}, nil)
	if err != nil || !l.LoRA {
		t.Errorf("launched with %+v, %v", l, err)
	}
}
