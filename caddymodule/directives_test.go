package caddymodule

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// handlersOf adapts a site's block and names its handlers in order, with their
// options.
func handlersOf(t *testing.T, block string) ([]string, error) {
	t.Helper()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(":80 {\n"+block+"\n}\n"), nil)
	if err != nil {
		return nil, err
	}
	var config struct {
		Apps struct {
			HTTP struct {
				Servers map[string]struct {
					Routes []struct{ Handle []json.RawMessage }
				}
			}
		}
	}
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range config.Apps.HTTP.Servers["srv0"].Routes {
		for _, h := range r.Handle {
			names = append(names, string(h))
		}
	}
	return names, nil
}

func TestDirectives(t *testing.T) {
	const (
		health    = `{"handler":"vllm_health"}`
		keys      = `{"handler":"vllm_keys","keys":[{"key":"{env.KEY}","name":"alice"}]}`
		public    = `{"audience":"public","handler":"vllm_status"}`
		catalog   = `{"handler":"vllm_catalog"}`
		status    = `{"handler":"vllm_status"}`
		admission = `{"handler":"vllm_admission"}`
		upstream  = `{"handler":"vllm_upstream"}`
	)
	tests := []struct {
		block string
		want  []string
	}{
		{"vllm_gateway", []string{health, catalog, status, admission, upstream}},
		{"vllm_gateway /v1/*", []string{health, catalog, status, admission, upstream}},
		{
			"vllm_upstream\nvllm_admission\nvllm_status\nvllm_catalog\nvllm_keys {\nkey alice {env.KEY}\n}\nvllm_health",
			[]string{health, keys, catalog, status, admission, upstream},
		},
		{"vllm_gateway {\nkeys {\nkey alice {env.KEY}\n}\n}", []string{health, keys, catalog, status, admission, upstream}},
		{"vllm_gateway {\nstatus public\nkeys {\nkey alice {env.KEY}\n}\n}", []string{health, public, keys, catalog, admission, upstream}},
		{"vllm_gateway {\nstatus off\nkeys {\nkey alice {env.KEY}\n}\n}", []string{health, keys, catalog, admission, upstream}},
		{"vllm_gateway {\nstatus off\n}", []string{health, catalog, admission, upstream}},
		{"vllm_gateway {\nstatus public\nmax_body 1MiB\nbody_memory 2GiB\n}", []string{
			health, catalog, public,
			`{"body_memory":2147483648,"handler":"vllm_admission","max_body":1048576}`, upstream,
		}},
		{"vllm_gateway {\nconnect_timeout 2s\nrequest_timeout 1h\nstream_idle_timeout 0s\n}", []string{
			health, catalog, status, admission,
			`{"connect_timeout":2000000000,"handler":"vllm_upstream","request_timeout":3600000000000,"stream_idle_timeout":0}`,
		}},
		{"vllm_upstream {\nstream_idle_timeout 1m\n}", []string{`{"handler":"vllm_upstream","stream_idle_timeout":60000000000}`}},
		{"vllm_status public", []string{public}},
		{"vllm_admission {\nmax_body 5MB\n}", []string{`{"handler":"vllm_admission","max_body":5000000}`}},
	}
	for _, tt := range tests {
		got, err := handlersOf(t, tt.block)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q gives %q and %v, want %q", tt.block, got, err, tt.want)
		}
	}
}

func TestDirectiveMistakes(t *testing.T) {
	for block, want := range map[string]string{
		"vllm_gateway on": "wrong argument count",
		"vllm_gateway {\nkeys {\nkey alice {env.A}\n}\nkeys {\nkey bob {env.B}\n}\n}": "keys is already specified",
		"vllm_gateway {\nkeys\n}":                                "there is no API key",
		"vllm_keys":                                              "there is no API key",
		"vllm_gateway {\nstatus\n}":                              "wrong argument count",
		"vllm_gateway {\nstatus all\n}":                          "status is 'all', but must be",
		"vllm_gateway {\nmax_bodies 1\n}":                        "unrecognized vllm_gateway option 'max_bodies'",
		"vllm_gateway {\nmax_body 1MiB\nmax_body 1MiB\n}":        "max_body is already specified",
		"vllm_gateway {\nmax_body huge\n}":                       "'huge' is not a size",
		"vllm_gateway {\nmax_body 0\n}":                          "max_body must be above 0",
		"vllm_gateway {\nmax_body 3GiB\n}":                       "max_body must be from 1 byte to 2 GiB",
		"vllm_admission {\nmax_body 32MiB\nbody_memory 16MiB\n}": "must not be less than max_body",
		"vllm_admission {\nstatus off\n}":                        "unrecognized vllm_admission option 'status'",
		"vllm_status off":                                        "does nothing",
		"vllm_status all":                                        "must be 'local' or 'public'",
		"vllm_health on":                                         "wrong argument count",
		"vllm_catalog {\nmax 1\n}":                               "vllm_catalog has no options",
		"vllm_upstream {\nconnect_timeout 0s\n}":                 "connect_timeout must be above 0",
		"vllm_upstream {\nrequest_timeout -1s\n}":                "request_timeout is negative",
		"vllm_upstream on":                                       "wrong argument count",
		"vllm_upstream {\nretries 3\n}":                          "unrecognized vllm_upstream option 'retries'",
	} {
		_, err := handlersOf(t, block)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Caddyfile:") {
			t.Errorf("%q: %v, want %q with file and line", block, err, want)
		}
	}
}
