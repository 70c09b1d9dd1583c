package caddymodule

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// Adapters are listed by their own names, which keys are for, and no folder of the
// machine is told.
func TestCatalogListsAdapters(t *testing.T) {
	models := []vramman.ModelSpec{{Name: "base", Aliases: []string{"b"}, Launch: server.Model{
		Repo: "/srv/base", LoRA: []server.LoRA{{Name: "sql", Path: "org/sql"}, {Name: "de", Path: "/srv/de"}},
	}}}
	var got []string
	for _, e := range catalogOf(models, time.Time{}) {
		got = append(got, fmt.Sprintf("%s for %s, of %q, root %q", e.ID, e.name, e.Parent, e.Root))
	}
	want := []string{
		`base for base, of "", root ""`, `b for base, of "base", root ""`,
		`sql for sql, of "base", root "org/sql"`, `de for de, of "base", root ""`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %q", got)
	}
	if names := namesOf(models); names["sql"] != "sql" || names["b"] != "base" {
		t.Errorf("keys are for %v", names)
	}
}
