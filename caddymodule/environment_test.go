// This file tests where values from outside of the configuration go.

package caddymodule

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestPlaceholders shows where values from outside go, and where they do not.
func TestPlaceholders(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("s3cret-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VLLM_GATEWAY_TEST_TOKEN", "s3cret-env")
	t.Setenv("VLLM_GATEWAY_TEST_EMPTY", "")
	unset(t, "VLLM_GATEWAY_TEST_UNSET")
	config, _, err := adapt(strings.Replace(vrammanFile(`
		model a {
			repo r
			env FROM_ENV Bearer-{env.VLLM_GATEWAY_TEST_TOKEN}
			env FROM_FILE {file.`+file+`}
			env EMPTY {env.VLLM_GATEWAY_TEST_EMPTY}
			env UNSET {env.VLLM_GATEWAY_TEST_UNSET}
			env LITERAL "\{\"a\": 1\}"
			env NOTHING ""
		}`), "engine simulated", "engine process {\n command vllm serve\n env HF_TOKEN {env.VLLM_GATEWAY_TEST_TOKEN}\n env GONE {env.VLLM_GATEWAY_TEST_UNSET}\n}", 1))
	if err != nil {
		t.Fatal(err)
	}
	app := provision(t, config)
	spec := app.Generation().Spec()

	want := []string{"FROM_ENV=Bearer-s3cret-env", "FROM_FILE=s3cret-file", `LITERAL={"a": 1}`, "NOTHING="}
	if got := spec.Models[0].Launch.Env; !slices.Equal(got, want) {
		t.Errorf("got env %q, want %q", got, want)
	}
	if got := fmt.Sprintf("%+v", spec.Engine); !strings.Contains(got, "HF_TOKEN=s3cret-env") || strings.Contains(got, "GONE") {
		t.Errorf("the engine has %s", got)
	}

	// What the admin API shows is the configuration as it was given; what a log
	// can show of a module is its exported fields.
	for what, shown := range map[string]any{
		"the app": app, "the engine": &EngineProcess{Env: map[string]string{"A": "{env.X}"}, env: []string{"A=s3cret-env"}},
	} {
		encoded, err := json.Marshal(shown)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(encoded), "s3cret") {
			t.Errorf("%s shows a secret: %s", what, encoded)
		}
	}
	if strings.Contains(string(config), "s3cret") {
		t.Errorf("the configuration holds a secret: %s", config)
	}
	if strings.Contains(spec.Engine.Key(), "s3cret") {
		t.Errorf("the engine's key holds a secret: %s", spec.Engine.Key())
	}
}

// TestFolderPlaceholder shows that an empty placeholder where a path belongs is an
// error, not another path.
func TestFolderPlaceholder(t *testing.T) {
	unset(t, "VLLM_GATEWAY_TEST_UNSET")
	config := strings.Replace(guests, `"source": "simulated"`, `"source": "simulated", "folder": "{env.VLLM_GATEWAY_TEST_UNSET}/x"`, 1)
	if err := validate(t, quietConfig(`{`+config+`}`)); err == nil || !strings.Contains(err.Error(), "folder: ") {
		t.Errorf("got error %v, want one about the folder", err)
	}
}
