// This file tests the engine module "docker": what its options become, and what
// they are refused for.

package caddymodule

import (
	"reflect"
	"strings"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/engine/docker"
)

// dockerFile is a Caddyfile with the engine docker, whose options begin in line 4.
func dockerFile(options string) string {
	return "{\n\tvramman {\n\t\tengine docker {\n" + options + "\n\t\t}\n\t\tname house\n\t\tgpus simulated {\n\t\t\tgpu GPU-1 24GiB\n\t\t}\n\t}\n}\n"
}

func TestEngineDocker(t *testing.T) {
	t.Setenv("WHERE", "/srv")
	t.Setenv("SECRET", "hf_secret")
	for _, tt := range []struct {
		name, options string
		want          docker.Spec
	}{
		{"little", "image i", docker.Spec{
			Gateway: "house", Image: "i", Cache: "vllm-gateway-huggingface", CompileCache: "vllm-gateway-compiled",
			Env: []string{}, Mounts: []engine.Mount{},
		}},
		{"everything", `image vllm/vllm-openai:v0.30.0
			network net
			cache {env.WHERE}/cache /mnt{env.WHERE}
			compile_cache off
			env HF_TOKEN {env.SECRET}
			env EMPTY {env.NOT_SET_ANYWHERE}
			gpu_access cdi
			publish 127.0.0.1
			ipc host
			mount {env.WHERE}/models /models ro
			mount adapters /adapters
			stop_on_exit
			host unix:/{env.WHERE}/docker.sock`, docker.Spec{
			Gateway: "house", Image: "vllm/vllm-openai:v0.30.0", Network: "net", Cache: "/srv/cache", CacheHere: "/mnt/srv",
			Env: []string{"HF_TOKEN=hf_secret", "HUGGING_FACE_HUB_TOKEN=hf_secret"}, GPUAccess: docker.AccessCDI, Publish: "127.0.0.1", HostIPC: true,
			Mounts:     []engine.Mount{{Source: "/srv/models", Target: "/models", ReadOnly: true}, {Source: "adapters", Target: "/adapters"}},
			StopOnExit: true, Host: "unix://srv/docker.sock",
		}},
		{"other values", "image i\n cache off\n compile_cache /var/compiled\n ipc private\n shm_size 8GiB\n stop_on_exit off", docker.Spec{
			Gateway: "house", Image: "i", CompileCache: "/var/compiled", ShmSize: 8 << 30, Env: []string{}, Mounts: []engine.Mount{},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config, _, err := adapt(dockerFile(tt.options))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(config), "hf_secret") {
				t.Error("the configuration shows a secret")
			}
			if got := provision(t, config).Generation().Spec().Engine; !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestMistakesOfEngineDocker(t *testing.T) {
	for _, tt := range []struct {
		name, options, want string
		line                int // of the options, from 1; 0: of the engine itself
	}{
		{"no image", "network n", "the engine docker is without an image", 0},
		{"image with a space", `image "a b"`, `"a b" cannot be an image's name`, 1},
		{"unknown option", "image i\n images j", "unrecognized docker option 'images'", 2},
		{"image twice", "image i\n image j", "image is already specified, in line 4", 2},
		{"network", "image i\n network a/b", "network: \"a/b\" cannot be a network's name", 2},
		{"Docker's own network", "image i\n network bridge", "network: \"bridge\" is Docker's own", 2},
		{"relative cache", "image i\n cache ./cache", "cache: \"./cache\" is neither a folder's full path nor a volume's name", 2},
		{"relative cache of the gateway", "image i\n cache /cache cache", "cache: \"cache\" cannot be where the gateway sees the cache", 2},
		{"no cache for the gateway to see", "image i\n cache off /cache", "cache: there is none that the gateway could see at /cache", 2},
		{"cache with a third word", "image i\n cache /a /b ro", "wrong argument count", 2},
		{"cache without a place", "image i\n cache", "wrong argument count", 2},
		{"empty cache", "image i\n cache \"\"", "cache is empty", 2},
		{"cache twice", "image i\n cache /a\n cache /b", "cache is already specified, in line 5", 3},
		{"cache with a colon", "image i\n compile_cache /a:b", "compile_cache: the path", 2},
		{"variable of the gateway", "image i\n env CUDA_VISIBLE_DEVICES 0", "the gateway sets CUDA_VISIBLE_DEVICES itself", 2},
		{"gpu_access", "image i\n gpu_access amd", "gpu_access: 'amd' is not one of nvidia, cdi, none", 2},
		{"publish", "image i\n publish 0.0.0.0", "publish: \"0.0.0.0\" is not supported", 2},
		{"ipc", "image i\n ipc shared", "ipc is 'shared', but must be 'private' or 'host'", 2},
		{"shared memory of the host's", "image i\n ipc host\n shm_size 1GiB", "shm_size: it has no meaning with 'ipc host'", 3},
		{"shm_size", "image i\n shm_size 8", "is a unit missing", 2},
		{"mount without a target", "image i\n mount /a", "wrong argument count", 2},
		{"mount with a wrong word", "image i\n mount /a /b rw", "mount: 'rw' is unknown", 2},
		{"relative mount", "image i\n mount a/b /c", "mount: \"a/b\" is neither", 2},
		{"two mounts at a place", "image i\n mount /a /c\n mount /b /c", "mount: /c is the place of two folders", 3},
		{"stop_on_exit", "image i\n stop_on_exit maybe", "stop_on_exit is 'maybe'", 2},
	} {
		t.Run(tt.name, func(t *testing.T) { wantMistake(t, dockerFile(tt.options), tt.want, 3+tt.line) })
	}
}

func TestMistakesOfEngineDockerInJSON(t *testing.T) {
	for json, want := range map[string]string{
		`{"engine": "docker"}`: "without an image",
		`{"engine": "docker", "image": "i", "cache": "{env.NOT_SET_ANYWHERE}"}`:                         "cache: ",
		`{"engine": "docker", "image": "i", "cache": "{env.HOME}:ro"}`:                                  "cache: ",
		`{"engine": "docker", "image": "i", "shm_size": -1}`:                                            "shm_size: it is negative",
		`{"engine": "docker", "image": "i", "mounts": [{"source": "{env.NOT_SET}/x", "target": "/x"}]}`: "the mount at /x",
		`{"engine": "docker", "image": "i", "mounts": [{"source": "/x"}]}`:                              "mount: ",
		`{"engine": "docker", "image": "i", "folder": "/x"}`:                                            "folder",
	} {
		err := validate(t, quietConfig(`{"engine": `+json+`, "gpus": {"source": "simulated", "gpus": [{"uuid": "GPU-1", "memory": 1073741824}]}}`))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", json, err, want)
		}
	}
}

// TestEngineDockerIsDocumented shows that the reference has every option.
func TestEngineDockerIsDocumented(t *testing.T) {
	docs := string(readFile(t, "../docs/configuration.md"))
	_, docs, _ = strings.Cut(docs, "### `docker`")
	docs, _, _ = strings.Cut(docs, "\n### ")
	for _, field := range reflect.VisibleFields(reflect.TypeFor[EngineDocker]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name = strings.Replace(name, "mounts", "mount", 1); name != "" && !strings.Contains(docs, "`"+name+"`") {
			t.Errorf("docs/configuration.md says nothing of %s", name)
		}
	}
}
