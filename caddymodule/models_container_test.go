package caddymodule

import (
	"reflect"
	"strings"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// containerFile is a configuration with the engine docker; the defaults' options
// begin in line 9, the model's in line 14.
func containerFile(defaults, model string) string {
	return strings.Join([]string{
		"{", "vramman {", "engine docker {", "image all/models", "}", "gpus nvidia_smi", "defaults {", "max_num_seqs 8",
		defaults, "}", "model a {", "repo org/a", "vram 1GiB", model, "}", "}", "}",
	}, "\n")
}

func TestImageAndMountsOfAModel(t *testing.T) {
	t.Setenv("WEIGHTS", "/srv/weights")
	config, _, err := adapt(containerFile("mount /a /in/a ro", "image my/model:1\nmount {env.WEIGHTS} /in/b"))
	if err != nil {
		t.Fatal(err)
	}
	m := provision(t, config).Generation().Spec().Models[0].Launch
	want := []engine.Mount{{Source: "/a", Target: "/in/a", ReadOnly: true}, {Source: "/srv/weights", Target: "/in/b"}}
	if m.Image != "my/model:1" || !reflect.DeepEqual(m.Mounts, want) {
		t.Errorf("image %q, mounts %+v", m.Image, m.Mounts)
	}
}

func TestMistakesOfContainerOptions(t *testing.T) {
	for _, tt := range []struct {
		name, file, want string
		line             int
	}{
		{"relative source", containerFile("", "mount a/b /c"), `model a: mount: "a/b" is neither`, 14},
		{"one place twice", containerFile("", "mount /a /c\nmount /b /c"), "/c is the place of two folders", 15},
		{"image twice", containerFile("", "image a\nimage b"), "image is already specified", 15},
		{"the defaults' mount", containerFile("mount /a c", ""), "defaults: mount:", 9},
		{"image without containers", strings.Replace(containerFile("", "image b"), "engine docker {\nimage all/models\n}", "engine process {\ncommand vllm\n}", 1), "image is for containers, and the engine is 'process'", 14},
		{"mount without containers", strings.Replace(containerFile("mount /a /b", ""), "engine docker {\nimage all/models\n}", "engine process {\ncommand vllm\n}", 1), "mount is for containers, and the engine is 'process'", 9},
	} {
		t.Run(tt.name, func(t *testing.T) { wantMistake(t, tt.file, tt.want, tt.line) })
	}
}
