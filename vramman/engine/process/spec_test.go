package process

import (
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func TestKey(t *testing.T) {
	base := Spec{Command: []string{"vllm", "serve"}, Env: []string{"A=1", "HF_TOKEN=hf_secret"}}
	same := Spec{Command: []string{"vllm", "serve"}, Env: []string{"HF_TOKEN=old", "HF_TOKEN=hf_secret", "A=1"}}
	if base.Key() != same.Key() {
		t.Error("the same effective environment makes another key")
	}
	if strings.Contains(base.Key(), "secret") {
		t.Error("the key shows a value")
	}
	for name, other := range map[string]Spec{
		"value":    {Command: base.Command, Env: []string{"A=1", "HF_TOKEN=hf_other"}},
		"name":     {Command: base.Command, Env: []string{"A=1", "TOKEN=hf_secret"}},
		"command":  {Command: []string{"vllm"}, Env: base.Env},
		"boundary": {Command: []string{"vllmserve"}, Env: base.Env},
		"shift":    {Command: []string{"vllm", "serve", "A=1"}, Env: base.Env[1:]},
	} {
		if other.Key() == base.Key() {
			t.Errorf("another %s, the same key", name)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, s := range map[string]Spec{
		"no command":   {},
		"empty":        {Command: []string{""}},
		"no equals":    {Command: []string{"x"}, Env: []string{"A=1", "hf_secret"}},
		"no name":      {Command: []string{"x"}, Env: []string{"=hf_secret"}},
		"with a zero":  {Command: []string{"x"}, Env: []string{"A=hf_secret\x00"}},
		"empty string": {Command: []string{"x"}, Env: []string{""}},
	} {
		_, err := s.Open(t.Context(), zap.NewNop())
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the message shows the value: %v", name, err)
		}
	}
}

func TestSimulated(t *testing.T) {
	s, err := Simulated([]string{"A=1"})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Command) != 2 || s.Command[1] != "vllm-sim" || !slices.Equal(s.Env, []string{"A=1"}) {
		t.Errorf("got %+v", s)
	}
}

func TestValue(t *testing.T) {
	if got := value([]string{"A=1", "A=2", "AB=3"}, "A"); got != "2" {
		t.Errorf("value %q", got)
	}
}

func TestNoCardsMeansNone(t *testing.T) {
	if got := visible(nil); !slices.Equal(got, []string{"CUDA_VISIBLE_DEVICES="}) {
		t.Errorf("got %q", got)
	}
}
