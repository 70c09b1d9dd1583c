// This file tests what Caddyfiles become, and what they are refused for.

package caddymodule

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

var update = flag.Bool("update", false, "rewrite the JSON of the golden files")

// adapt returns the JSON that Caddy makes of a Caddyfile.
func adapt(caddyfile string) ([]byte, []caddyconfig.Warning, error) {
	return caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
}

func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			golden, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			const line = "----------\n"
			caddyfile, want, _ := strings.Cut(string(golden), line)
			adapted, warnings, err := adapt(caddyfile)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range warnings {
				t.Errorf("warning: %s", w)
			}
			var got bytes.Buffer
			if err := json.Indent(&got, adapted, "", "\t"); err != nil {
				t.Fatal(err)
			}
			got.WriteByte('\n')
			if *update {
				if err := os.WriteFile(file, []byte(caddyfile+line+got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got.String() != want {
				t.Errorf("adapted to\n%s\nnot to\n%s", got.String(), want)
			}
		})
	}
}

// bodyLine is the line of the first of the options in vrammanFile.
const bodyLine = 7

// vrammanFile is a Caddyfile with options of vramman, in lines from bodyLine on.
func vrammanFile(options string) string {
	return "{\n\tvramman {\n\t\tengine simulated\n\t\tgpus simulated {\n\t\t\tgpu GPU-1 24GiB\n\t\t}\n" + options + "\n\t}\n}\n"
}

func TestMistakes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options string
		want    string
		line    int // of the options, from 1
	}{
		// Words.
		{"unknown word", "mxa_queue 3", "unrecognized vramman option 'mxa_queue'", 1},
		{"unknown word in a model", "model a {\n repo r\n vrma 3GiB\n}", "unrecognized model option 'vrma'", 3},
		{"unknown word in a pool", "pool p {\n gpus GPU-1\n}", "unrecognized pool option 'gpus'", 2},
		{"unknown word in the defaults", "defaults {\n devices /a /b\n}", "unrecognized model option 'devices'", 2},
		{"repo in the defaults", "defaults {\n repo r\n}", "unrecognized model option 'repo'", 2},
		{"alias in the defaults", "defaults {\n alias b\n}", "unrecognized model option 'alias'", 2},
		{"option of a model at the top", "max_model_len 5", "unrecognized vramman option 'max_model_len'", 1},
		{"block where none belongs", "max_queue 3 {\n a\n}", "unrecognized vramman option '{'", 1},
		{"unknown eviction policy", "eviction mru", "there is no eviction 'mru': choose from 'cost', 'lru'", 1},
		{"unknown server", "model a {\n repo r\n server tgi\n}", "there is no server 'tgi': choose from 'vllm'", 3},
		{"options where there are none", "eviction lru {\n x\n}", "there are no options here, and so no 'x'", 2},
		{"options of cost", "eviction cost {\n half_life 1h\n}", "there are no options here, and so no 'half_life'", 2},
		{"option of a server without any", "model a {\n repo r\n server vllm {\n  x\n }\n}", "there are no options here, and so no 'x'", 4},

		// Twice.
		{"option twice", "max_queue 3\nmax_queue 4", "max_queue is already specified, in line 7", 2},
		{"engine twice", "engine simulated", "engine is already specified, in line 3", 1},
		{"defaults twice", "defaults {\n pool a\n}\ndefaults {\n}", "defaults is already specified, in line 7", 4},
		{"option of a model twice", "model a {\n repo r\n repo s\n}", "repo is already specified, in line 8", 3},
		{"flag twice", "model a {\n repo r\n always_on on\n always_on off\n}", "always_on is already specified, in line 9", 4},
		{"option of a pool twice", "pool p {\n gpu GPU-1\n budget 0.5\n budget 0.6\n}", "budget is already specified, in line 9", 4},
		{"variable twice", "model a {\n repo r\n env A 1\n env A 2\n}", "env A is already specified", 4},
		{"model twice", "model a {\n repo r\n}\nmodel a {\n repo s\n}", "model a is already defined", 4},
		{"pool twice", "pool p {\n gpu GPU-1\n}\npool p {\n gpu GPU-2\n}", "pool p is already defined", 4},

		// Names.
		{"model without a name", "model {\n repo r\n}", "a model needs a name: 'model <name> {'", 1},
		{"pool without a name", "pool {\n gpu GPU-1\n}", "a pool needs a name: 'pool <name> {'", 1},
		{"two names of a model", "model a b {\n repo r\n}", "wrong argument count", 1},
		{"name of a model that looks like a flag", "model -a {\n repo r\n}", `"-a" cannot be a model's name`, 1},
		{"name of a pool", "pool a/b {\n gpu GPU-1\n}", `"a/b" cannot be a pool's name`, 1},
		{"name of the gateway", "name a/b", `"a/b" cannot be a gateway's name`, 1},
		{
			"alias of another model", "model a {\n repo r\n alias x\n}\nmodel b {\n repo r\n alias y x\n}",
			"model b: the alias x is a name of model a already", 7,
		},
		{"alias that is a model", "model a {\n repo r\n}\nmodel b {\n repo r\n alias a\n}", "the alias a is a name of model a already", 6},
		{"alias that is its own model", "model a {\n repo r\n alias a\n}", "the alias a is a name of model a already", 3},
		{"model that is an alias", "model a {\n repo r\n alias b\n}\nmodel b {\n repo r\n}", "model b: the name is an alias of model a already", 5},
		{"alias twice", "model a {\n repo r\n alias x\n alias y x\n}", "the alias x is a name of model a already", 4},
		{"alias with a space", "model a {\n repo r\n alias \"x y\"\n}", "cannot be a model's name", 3},

		// Fallbacks.
		{"fallback that is no model", "model a {\n repo r\n fallback b\n}", "model a: the fallback b is no model", 3},
		{"fallback to itself", "model a {\n repo r\n alias b\n fallback b\n}", "model a: the fallback b is the model itself", 4},
		{"fallback of the defaults", "defaults {\n fallback b\n}\nmodel a {\n repo r\n}", "model a: the fallback b is no model", 2},
		{"fallback with a password", "model a {\n repo r\n fallback https://u:p@h/v1\n}", "must be a model, or a URL such as", 3},
		{"fallback of another scheme", "model a {\n repo r\n fallback ftp://h/v1\n}", "must be a model, or a URL such as", 3},
		{"key without a URL", "model a {\n repo r\n fallback_key k\n}", "fallback_key goes with a fallback that is a URL", 3},
		{"model without a URL", "model a {\n repo r\n fallback_model b\n}", "fallback_model goes with a fallback that is a URL", 3},

		// Numbers, times, sizes.
		{"no number", "max_concurrent many", "max_concurrent: 'many' is not a whole number", 1},
		{"broken number", "max_queue 1.5", "max_queue: '1.5' is not a whole number", 1},
		{"huge number", "max_queue 99999999999999999999", "is not a whole number", 1},
		{"none at once", "max_concurrent 0", "max_concurrent must be at least 1", 1},
		{"negative queue", "max_queue -1", "max_queue must be at least 0", 1},
		{"no cards", "model a {\n repo r\n tensor_parallel 0\n}", "tensor_parallel must be at least 1", 3},
		{"no context", "model a {\n repo r\n max_model_len 0\n}", "max_model_len must be at least 1", 3},
		{"no sequences", "model a {\n repo r\n max_num_seqs -8\n}", "max_num_seqs must be at least 1", 3},
		{"no time", "max_wait soon", "max_wait: 'soon' is not a time, such as '90s' or '15m'", 1},
		{"time without a unit", "max_wait 90", "max_wait: '90' is not a time", 1},
		{"zero time", "max_wait 0s", "max_wait must be above 0", 1},
		{"zero start", "start_timeout 0s", "start_timeout must be above 0", 1},
		{"zero grace", "stop_grace 0s", "stop_grace must be above 0", 1},
		{"zero turn", "max_wait_for_turn 0s", "max_wait_for_turn must be above 0", 1},
		{"negative time", "idle_timeout -1s", "idle_timeout is negative", 1},
		{"negative drain", "drain_timeout -1s", "drain_timeout is negative", 1},
		{"no size", "model a {\n repo r\n vram much\n}", "vram: 'much' is not a size, such as '3GiB'", 3},
		{"bad unit", "model a {\n repo r\n vram 24Gx\n}", "vram: '24Gx' is not a size", 3},
		{"size without a unit", "model a {\n repo r\n vram 24\n}", "is a unit missing, as in '3GiB'?", 3},
		{"huge size", "model a {\n repo r\n vram 16EB\n}", "is not a size", 3},
		{"budget above 1", "budget 92", "budget must be above 0 and at most 1", 1},
		{"no budget", "budget 0", "budget must be above 0 and at most 1", 1},
		{"budget that is no number", "budget NaN", "budget must be above 0 and at most 1", 1},
		{"budget in percent", "budget 92%", "budget: '92%' is not a number", 1},
		{"budget of a pool", "pool p {\n gpu GPU-1\n budget 1.1\n}", "budget must be above 0 and at most 1", 3},
		{"utilization", "model a {\n repo r\n gpu_memory_utilization 1.5\n}", "gpu_memory_utilization must be above 0 and at most 1", 3},
		{"placement", "pool p {\n gpu GPU-1\n placement tight\n}", "placement is 'tight', but must be 'budget' or 'whole_card'", 3},
		{"dtype", "model a {\n repo r\n dtype int8\n}", "dtype is 'int8', but must be one of auto,", 3},
		{"quantization", "model a {\n repo r\n quantization --awq\n}", "cannot be a value of quantization", 3},
		{"repo that looks like a flag", "model a {\n repo --x\n}", "cannot be a value of repo", 2},
		{"flag", "model a {\n repo r\n always_on yes\n}", "always_on is 'yes', but must be 'on' or 'off'", 3},

		// Arguments.
		{"argument of the block", "defaults x {\n}", "wrong argument count", 1},
		{"extra argument", "max_queue 3 4", "wrong argument count", 1},
		{"missing argument", "max_queue", "wrong argument count", 1},
		{"extra argument of a flag", "model a {\n repo r\n always_on on off\n}", "wrong argument count", 3},
		{"empty argument", "model a {\n repo \"\"\n}", "repo is empty", 2},
		{"empty alias", "model a {\n repo r\n alias \"\"\n}", "alias has an empty value", 3},
		{"variable without a value", "model a {\n repo r\n env A\n}", "wrong argument count", 3},
		{"argument of a policy", "eviction lru x", "wrong argument count", 1},

		// Between options.
		{"model without a repo", "model a {\n alias b\n}", "model a is without a repo", 1},
		{"model without a block", "model a", "model a is without a repo", 1},
		{
			"two footprints", "model a {\n repo r\n vram 3GiB\n gpu_memory_utilization 0.5\n}",
			"vram and gpu_memory_utilization both say how much it takes", 4,
		},
		{
			"two footprints in the defaults", "defaults {\n gpu_memory_utilization 0.5\n vram 3GiB\n}",
			"defaults: vram and gpu_memory_utilization both", 2,
		},
		{"variable that cannot be", "model a {\n repo r\n env A=B c\n}", `"A=B" cannot be the name of an environment variable`, 3},
		{"variable of the gateway", "model a {\n repo r\n env CUDA_VISIBLE_DEVICES 0\n}", "the gateway sets CUDA_VISIBLE_DEVICES itself", 3},

		// Pools.
		{"pool without GPUs", "pool p {\n budget 0.5\n}", "pool p is without GPUs", 1},
		{"GPU in two pools", "pool p {\n gpu GPU-1\n}\npool q {\n gpu GPU-2\n gpu GPU-1\n}", "pool q: GPU GPU-1 is in pool p already", 6},
		{"GPU twice in a pool", "pool p {\n gpu GPU-1 GPU-2\n gpu GPU-1\n}", "pool p: GPU GPU-1 stands in it twice", 3},
		{"GPUs with a comma", "pool p {\n gpu GPU-1,GPU-2\n}", "cannot be a GPU's UUID", 2},
		{"unknown pool", "pool p {\n gpu GPU-1\n}\nmodel a {\n repo r\n pool q\n}", "model a: there is no pool q", 6},
		{"unknown pool without any", "model a {\n repo r\n pool q\n}", "model a: there is no pool q", 3},
		{"unknown pool in the defaults", "pool p {\n gpu GPU-1\n}\nmodel a {\n repo r\n}\ndefaults {\n pool q\n}", "model a: there is no pool q", 8},
		{"no pool of several", "pool p {\n gpu GPU-1\n}\npool q {\n gpu GPU-2\n}\nmodel a {\n repo r\n}", "model a is without a pool, and there are several", 7},
		{"too many cards", "pool p {\n gpu GPU-1 GPU-2\n}\nmodel a {\n repo r\n tensor_parallel 4\n}", "model a: tensor_parallel is 4, but pool p has 2 GPUs", 6},
		{
			"too many cards for a pool", "pool p {\n gpu GPU-1 GPU-2\n}\npool q {\n gpu GPU-3\n}\nmodel a {\n repo r\n pool q\n}\ndefaults {\n tensor_parallel 2\n}",
			"model a: tensor_parallel is 2, but pool q has 1 GPU", 9,
		},

		// Arguments for the server.
		{"managed flag", "model a {\n repo r\n args --seed 1\n args --port 80\n}", "model a: --port cannot stand in args: the gateway chooses where", 4},
		{"managed flag in disguise", "model a {\n repo r\n args --served_model_name=x\n}", "--served-model-name cannot stand in args", 3},
		{"abbreviated managed flag", "model a {\n repo r\n args --gpu-memory-util 0.5\n}", "--gpu-memory-utilization cannot stand in args: set vram", 3},
		{"short managed flag", "model a {\n repo r\n args -tp 2\n}", "--tensor-parallel-size cannot stand in args: set tensor_parallel", 3},
		{"argument that is a model", "model a {\n repo r\n args org/other\n}", "--model cannot stand in args: set repo", 3},
		{"configuration file", "model a {\n repo r\n args --config x.yaml\n}", "--config cannot stand in args", 3},
		{"managed flag in the defaults", "model a {\n repo r\n}\ndefaults {\n args --seed 1\n args --host 0.0.0.0\n}", "model a: --host cannot stand in args", 6},

		// JSON.
		{
			"JSON without quotes", "model a {\n repo r\n request_defaults {\"chat_template_kwargs\": {\"enable_thinking\": false}}\n}",
			"request_defaults must stand in backticks", 3,
		},
		{"JSON without quotes or spaces", "model a {\n repo r\n request_defaults {\"temperature\":0.2}\n}", "request_defaults must stand in backticks", 3},
		{"JSON as a block", "model a {\n repo r\n request_defaults {\n  \"temperature\": 0.2\n }\n}", "request_defaults must stand in backticks", 3},
		{"no JSON at all", "model a {\n repo r\n request_defaults\n}", "request_defaults must stand in backticks", 3},
		{"broken JSON", "model a {\n repo r\n request_defaults `{\"temperature\": }`\n}", "request_defaults is not valid JSON", 3},
		{"JSON and more", "model a {\n repo r\n request_defaults `{}` `{}`\n}", "wrong argument count", 3},
		{"JSON that is no object", "model a {\n repo r\n request_defaults `[1]`\n}", "model a: request defaults must be a JSON object", 3},
		{"default that is the client's", "model a {\n repo r\n request_defaults `{\"stream\": true}`\n}", "stream is the caller's choice", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantMistake(t, vrammanFile(tt.options), tt.want, bodyLine+tt.line-1)
		})
	}
}

// TestMistakesOfGuests tests what is refused where the engine and the cards are
// configured.
func TestMistakesOfGuests(t *testing.T) {
	const engine, cards = "engine simulated\n", "gpus simulated {\n gpu GPU-1 24GiB\n}\n"
	for _, tt := range []struct {
		name, options, want string
		line                int // of the options, from 1; 0: of vramman itself
	}{
		{"nothing", "", "no engine is configured: add 'engine' with one of 'docker', 'process', 'simulated'", 0},
		{"no engine", cards, "no engine is configured", 0},
		{"no cards", engine, "no cards are configured: add 'gpus' with one of 'nvidia_smi', 'nvml', 'simulated', 'static'", 0},
		{"unknown engine", cards + "engine podman", "there is no engine 'podman': choose from 'docker', 'process', 'simulated'", 4},
		{"engine without a name", cards + "engine", "wrong argument count", 4},
		{"unknown source", engine + "gpus magic", "there is no gpus 'magic': choose from 'nvidia_smi', 'nvml', 'simulated', 'static'", 2},
		{"process without a command", cards + "engine process", "the engine process is without a command", 4},
		{"unknown option of process", cards + "engine process {\n image x\n}", "unrecognized process option 'image'", 5},
		{"command twice", cards + "engine process {\n command a\n command b\n}", "command is already specified, in line 7", 6},
		{"variable of the gateway", cards + "engine process {\n command a\n env VLLM_API_KEY x\n}", "the gateway sets VLLM_API_KEY itself", 6},
		{"unknown option of simulated", cards + "engine simulated {\n command x\n}", "unrecognized simulated option 'command'", 5},
		{"argument of the engine", cards + "engine simulated x", "wrong argument count", 4},
		{"cards without cards", engine + "gpus simulated {\n folder /tmp/x\n}", "gpus simulated is without cards", 2},
		{"unknown option of the cards", engine + "gpus simulated {\n card GPU-1 3GiB\n}", "unrecognized simulated option 'card'", 3},
		{"card without a size", engine + "gpus simulated {\n gpu GPU-1\n}", "wrong argument count", 3},
		{"card with a bad size", engine + "gpus simulated {\n gpu GPU-1 big\n}", "gpu: 'big' is not a size", 3},
		{"card twice", engine + "gpus simulated {\n gpu GPU-1 3GiB\n gpu GPU-1 3GiB\n}", "the card GPU-1 is defined twice", 4},
		{"name of a card", engine + "gpus simulated {\n gpu ../x 3GiB\n}", `"../x" cannot be a card's UUID`, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantMistake(t, "{\n\tvramman {\n"+tt.options+"\n\t}\n}\n", tt.want, 2+tt.line)
		})
	}
	t.Run("argument of vramman", func(t *testing.T) {
		wantMistake(t, "{\n\tvramman x {\n\t}\n}\n", "wrong argument count", 2)
	})
	t.Run("vramman twice", func(t *testing.T) {
		block := strings.TrimSuffix(vrammanFile(""), "}\n")
		wantMistake(t, block+strings.TrimPrefix(vrammanFile(""), "{\n"), "vramman is already specified", 9)
	})
}

// wantMistake checks that a Caddyfile is refused, in words and with the line.
func wantMistake(t *testing.T, caddyfile, want string, line int) {
	t.Helper()
	_, _, err := adapt(caddyfile)
	if err == nil {
		t.Fatalf("accepted:\n%s", caddyfile)
	}
	if got := err.Error(); !strings.Contains(got, want) || !strings.HasSuffix(got, fmt.Sprintf(", at Caddyfile:%d", line)) {
		t.Errorf("got error %q, want one with %q and line %d", got, want, line)
	}
}

// TestMistakeInImportedFile shows that a mistake found between blocks names the
// file that it stands in.
func TestMistakeInImportedFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "models.caddyfile")
	if err := os.WriteFile(file, []byte("model a {\n\trepo r\n\tpool q\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := adapt(vrammanFile("\t\timport " + file))
	if err == nil || !strings.Contains(err.Error(), "there is no pool q, at "+file+":3") {
		t.Errorf("got error %v, want one that names %s:3", err, file)
	}
}
