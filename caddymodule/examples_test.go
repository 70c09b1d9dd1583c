// This file tests the Caddyfiles and the documentation that users start from.

package caddymodule

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestExamples(t *testing.T) {
	for _, name := range []string{"../Caddyfile.demo", "../Caddyfile.example"} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"HF_TOKEN", "GATEWAY_MAX_CONCURRENT", "GATEWAY_MAX_QUEUE_SIZE", "LOG_LEVEL"} {
				unset(t, variable)
			}
			file := readFile(t, name)
			if formatted := caddyfile.Format(file); !bytes.Equal(formatted, file) {
				t.Errorf("not formatted as 'caddy fmt' does; it should be\n%s", formatted)
			}
			config, warnings, err := adapt(string(file))
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range warnings {
				t.Errorf("warning: %s", w)
			}
			if err := validate(t, config); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestExampleTakesTheEnvironment shows that the variables of Caddyfile.example
// reach what they are named after.
func TestExampleTakesTheEnvironment(t *testing.T) {
	t.Setenv("GATEWAY_MAX_CONCURRENT", "7")
	t.Setenv("GATEWAY_MAX_QUEUE_SIZE", "0")
	t.Setenv("LOG_LEVEL", "WARN")
	config, _, err := adapt(string(readFile(t, "../Caddyfile.example")))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"max_concurrent":7`, `"max_queue":0`, `"level":"WARN"`} {
		if !strings.Contains(string(config), want) {
			t.Errorf("%s is not in %s", want, config)
		}
	}
}

// TestDemoCannotHoldAllItsModels shows that the demonstration has something to
// show: each model fits, but not all of them.
func TestDemoCannotHoldAllItsModels(t *testing.T) {
	config, _, err := adapt(string(readFile(t, "../Caddyfile.demo")))
	if err != nil {
		t.Fatal(err)
	}
	spec := provision(t, config).Generation().Spec()
	const card = 24 << 30
	budget := int64(spec.Pools[0].Budget * card)
	var sum int64
	for _, m := range spec.Models {
		if m.Need.Bytes <= 0 || m.Need.Bytes > budget {
			t.Errorf("model %s needs %d bytes of %d", m.Name, m.Need.Bytes, budget)
		}
		sum += m.Need.Bytes
	}
	if len(spec.Models) != 4 || sum <= 2*budget {
		t.Errorf("%d models need %d bytes of %d: nothing is ever evicted", len(spec.Models), sum, 2*budget)
	}
}

// TestDocumentation shows that the reference has every option.
func TestDocumentation(t *testing.T) {
	docs := string(readFile(t, "../docs/configuration.md"))
	for _, config := range []any{
		App{},
		Pool{},
		Model{},
		EngineProcess{},
		EngineSimulated{},
		GPUsSimulated{},
		SimulatedGPU{},
		Admission{},
		Keys{},
		Key{},
		TrustedAuth{},
	} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(config)) {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name == "" {
				continue
			}
			if !strings.Contains(docs, "`"+name+"`") && !strings.Contains(docs, `"`+name+`"`) {
				t.Errorf("%T: docs/configuration.md says nothing of %s", config, name)
			}
		}
	}
}

// TestDocumentedExamples shows that the complete examples of the reference can be
// loaded.
func TestDocumentedExamples(t *testing.T) {
	docs := string(readFile(t, "../docs/configuration.md"))
	var caddyfiles, configs int
	for _, block := range strings.Split(docs, "```")[1:] {
		language, text, _ := strings.Cut(block, "\n")
		switch {
		case language == "json":
			configs++
			if err := validate(t, []byte(text)); err != nil {
				t.Errorf("%v in\n%s", err, text)
			}
		case language == "jsonc": // a file of keys
			if ring, err := parseKeys([]byte(text)); err != nil || len(ring) == 0 {
				t.Errorf("%d keys and %v in\n%s", len(ring), err, text)
			}
		case language == "caddyfile" && strings.HasPrefix(text, "{"):
			caddyfiles++
			if formatted := caddyfile.Format([]byte(text)); string(formatted) != text {
				t.Errorf("not formatted as 'caddy fmt' does; it should be\n%s", formatted)
			}
			config, _, err := adapt(text)
			if err == nil {
				err = validate(t, config)
			}
			if err != nil {
				t.Errorf("%v in\n%s", err, text)
			}
		case language == "caddyfile" && (strings.HasPrefix(text, "pool") || strings.HasPrefix(text, "model")):
			caddyfiles++
			// The model wants more cards than vrammanFile's only one has, which
			// is nothing that can be known while no pool lists them.
			if _, _, err := adapt(vrammanFile(text)); err != nil {
				t.Errorf("%v in\n%s", err, text)
			}
		}
	}
	if caddyfiles < 3 || configs < 1 {
		t.Errorf("found %d Caddyfiles and %d JSON configurations", caddyfiles, configs)
	}
}

// unset takes a variable out of the environment until the test ends.
func unset(t *testing.T, name string) {
	t.Setenv(name, "") // has it restored
	if err := os.Unsetenv(name); err != nil {
		t.Fatal(err)
	}
}

// validate does what 'caddy validate' does with a configuration.
func validate(t *testing.T, config []byte) error {
	t.Helper()
	var cfg caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &cfg); err != nil {
		t.Fatal(err)
	}
	return caddy.Validate(&cfg)
}
