// This file tests the inventory modules: what their Caddyfiles become, and what they
// are refused for.

package caddymodule

import (
	"reflect"
	"strings"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu/nvidiasmi"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu/nvml"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu/static"
)

// gpusFile is a Caddyfile with an inventory, which begins in line 4.
func gpusFile(gpus string) string {
	return "{\n\tvramman {\n\t\tengine simulated\ngpus " + gpus + "\n\t}\n}\n"
}

func TestInventories(t *testing.T) {
	t.Setenv("WHERE", "/opt/nvidia")
	for _, tt := range []struct {
		name, gpus, json string
		want             gpu.Spec
	}{
		{"nvml", "nvml", `{"source":"nvml"}`, &nvml.Spec{}},
		{
			"nvml with a library", "nvml {\n library {env.WHERE}/libnvidia-ml.so.1\n}",
			`{"library":"{env.WHERE}/libnvidia-ml.so.1","source":"nvml"}`, &nvml.Spec{Library: "/opt/nvidia/libnvidia-ml.so.1"},
		},
		{"nvidia_smi", "nvidia_smi", `{"source":"nvidia_smi"}`, &nvidiasmi.Spec{}},
		{
			"nvidia_smi with a command", "nvidia_smi {\n command {env.WHERE}/nvidia-smi\n}",
			`{"command":"{env.WHERE}/nvidia-smi","source":"nvidia_smi"}`, &nvidiasmi.Spec{Command: "/opt/nvidia/nvidia-smi"},
		},
		{
			"static", "static {\n gpu GPU-1 80GiB \"NVIDIA H100\"\n gpu GPU-2 24GiB\n gpu MIG-3\n}",
			`{"gpus":[{"memory":85899345920,"name":"NVIDIA H100","uuid":"GPU-1"},{"memory":25769803776,"uuid":"GPU-2"},{"uuid":"MIG-3"}],"source":"static"}`,
			&static.Spec{Cards: []static.Card{{UUID: "GPU-1", Name: "NVIDIA H100", Total: 80 << 30}, {UUID: "GPU-2", Total: 24 << 30}, {UUID: "MIG-3"}}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config, _, err := adapt(gpusFile(tt.gpus))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(config), tt.json) {
				t.Errorf("adapted to %s, want %s in it", config, tt.json)
			}
			if got := provision(t, config).Generation().Spec().GPUs; !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestMistakesOfInventories(t *testing.T) {
	for _, tt := range []struct {
		name, gpus, want string
		line             int // from that of gpus, which is 1
	}{
		{"argument of nvml", "nvml /lib/x.so", "wrong argument count", 1},
		{"unknown option of nvml", "nvml {\n path x\n}", "unrecognized nvml option 'path'", 2},
		{"library without a value", "nvml {\n library\n}", "wrong argument count", 2},
		{"library twice", "nvml {\n library a\n library b\n}", "library is already specified, in line 5", 3},
		{"argument of nvidia_smi", "nvidia_smi /bin/x", "wrong argument count", 1},
		{"unknown option of nvidia_smi", "nvidia_smi {\n path x\n}", "unrecognized nvidia_smi option 'path'", 2},
		{"command with arguments", "nvidia_smi {\n command nvidia-smi -q\n}", "wrong argument count", 2},
		{"empty command", "nvidia_smi {\n command \"\"\n}", "command is empty", 2},
		{"static without cards", "static", "gpus static is without cards", 1},
		{"unknown option of static", "static {\n folder x\n}", "unrecognized static option 'folder'", 2},
		{"card without a UUID", "static {\n gpu\n}", "wrong argument count", 2},
		{"card with too much", "static {\n gpu GPU-1 3GiB a b\n}", "wrong argument count", 2},
		{"card with a bad size", "static {\n gpu GPU-1 big\n}", "gpu: 'big' is not a size", 2},
		{"card without a unit", "static {\n gpu GPU-1 24\n}", "is a unit missing", 2},
		{"card twice", "static {\n gpu GPU-1 3GiB\n gpu GPU-1\n}", "the card GPU-1 is defined twice", 3},
		{"name of a card", "static {\n gpu GPU/1 3GiB\n}", `"GPU/1" cannot be a card's UUID`, 2},
	} {
		t.Run(tt.name, func(t *testing.T) { wantMistake(t, gpusFile(tt.gpus), tt.want, 3+tt.line) })
	}
}

func TestMistakesOfInventoriesInJSON(t *testing.T) {
	for json, want := range map[string]string{
		`{"source": "static"}`: "gpus static is without cards",
		`{"source": "static", "gpus": [{"uuid": "GPU-1", "memory": 24}]}`: "a memory of 24 bytes is too little",
		`{"source": "static", "gpus": [{"uuid": "GPU-1", "memory": -1}]}`: "too little",
		`{"source": "static", "gpus": [{"uuid": "GPU-1", "name": "\n"}]}`: "cannot be its name",
		`{"source": "nvml", "library": "{env.NOT_SET_ANYWHERE}"}`:         "library: ",
		`{"source": "nvml", "path": "x"}`:                                 "path",
		`{"source": "nvidia_smi", "command": "{env.NOT_SET_ANYWHERE}"}`:   "command: ",
		`{"source": "nvidia_smi", "command": ["nvidia-smi"]}`:             "command",
	} {
		err := validate(t, quietConfig(`{"engine": {"engine": "simulated"}, "gpus": `+json+`}`))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", json, err, want)
		}
	}
}

// TestInventoriesAreDocumented shows that the reference has every option.
func TestInventoriesAreDocumented(t *testing.T) {
	docs := string(readFile(t, "../docs/configuration.md"))
	for _, config := range []any{GPUsNVML{}, GPUsNvidiaSMI{}, GPUsStatic{}, StaticGPU{}} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(config)) {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name != "" && !strings.Contains(docs, "`"+name+"`") && !strings.Contains(docs, `"`+name+`"`) {
				t.Errorf("%T: docs/configuration.md says nothing of %s", config, name)
			}
		}
	}
}
