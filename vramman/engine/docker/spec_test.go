package docker

import (
	"reflect"
	"strings"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// The key changes with each field, and with no other way to write the same.
func TestKey(t *testing.T) {
	base := Spec{Gateway: "g", Image: "i", Env: []string{"A=1", "HF_TOKEN=hf_secret"}}
	same := Spec{
		Gateway: "g", Image: "i", Env: []string{"HF_TOKEN=old", "HF_TOKEN=hf_secret", "A=1"},
		Network: DefaultNetwork, GPUAccess: AccessNVIDIA, ShmSize: DefaultShmSize,
	}
	if base.Key() != same.Key() {
		t.Error("the same written out makes another key")
	}
	if strings.Contains(base.Key(), "secret") {
		t.Error("the key shows a value")
	}
	others := map[string]Spec{}
	for name, change := range map[string]func(*Spec){
		"Gateway":      func(s *Spec) { s.Gateway = "h" },
		"Image":        func(s *Spec) { s.Image = "j" },
		"Network":      func(s *Spec) { s.Network = "n" },
		"Cache":        func(s *Spec) { s.Cache = "/c" },
		"CacheHere":    func(s *Spec) { s.CacheHere = "/h" },
		"CompileCache": func(s *Spec) { s.CompileCache = "/c" },
		"Env":          func(s *Spec) { s.Env = []string{"A=1", "HF_TOKEN=other"} },
		"GPUAccess":    func(s *Spec) { s.GPUAccess = AccessCDI },
		"Publish":      func(s *Spec) { s.Publish = "127.0.0.1" },
		"HostIPC":      func(s *Spec) { s.HostIPC = true },
		"ShmSize":      func(s *Spec) { s.ShmSize = 1 << 30 },
		"Mounts":       func(s *Spec) { s.Mounts = []engine.Mount{{Source: "/a", Target: "/b"}} },
		"StopOnExit":   func(s *Spec) { s.StopOnExit = true },
		"Host":         func(s *Spec) { s.Host = "unix:///x" },
	} {
		s := base
		change(&s)
		others[name] = s
	}
	keys := map[string]string{base.Key(): "none"}
	for name, s := range others {
		if other, ok := keys[s.Key()]; ok {
			t.Errorf("%s makes the key of %s", name, other)
		}
		keys[s.Key()] = name
	}
	for f := range reflect.TypeFor[Spec]().Fields() {
		if _, ok := others[f.Name]; !ok {
			t.Errorf("nobody looks whether %s changes the key", f.Name)
		}
	}
}

func TestCheck(t *testing.T) {
	good := Spec{
		Gateway: "main", Cache: "/root/.cache/huggingface", CompileCache: "vllm-compile", Publish: "127.0.0.1", ShmSize: 1 << 30,
		Env: []string{"A="}, Mounts: []engine.Mount{{Source: "/a", Target: "/b"}, {Source: "data", Target: "/c", ReadOnly: true}},
	}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Spec){
		"cannot be part of a container's name":     func(s *Spec) { s.Gateway = "" },
		`name: "a/b" cannot be part`:               func(s *Spec) { s.Gateway = "a/b" },
		"cannot be a network's name":               func(s *Spec) { s.Network = "a b" },
		`"bridge" is Docker's own`:                 func(s *Spec) { s.Network = "bridge" },
		`publish: "0.0.0.0" is not supported`:      func(s *Spec) { s.Publish = "0.0.0.0" },
		"shm_size: it has no meaning":              func(s *Spec) { s.HostIPC = true },
		"shm_size: it is negative":                 func(s *Spec) { s.ShmSize = -1 },
		"gpu_access: 'amd' is not one of":          func(s *Spec) { s.GPUAccess = "amd" },
		`cache: "a/b" is neither`:                  func(s *Spec) { s.Cache = "a/b" },
		`cache: "c" cannot be where the gateway`:   func(s *Spec) { s.CacheHere = "c" },
		"cache: there is none":                     func(s *Spec) { s.Cache, s.CacheHere = "", "/c" },
		"compile_cache: the path \"/a:b\"":         func(s *Spec) { s.CompileCache = "/a:b" },
		"env: entry 1 is not of the form":          func(s *Spec) { s.Env = []string{"secret"} },
		`mount: "./a" is neither`:                  func(s *Spec) { s.Mounts[0].Source = "./a" },
		`mount: "b" cannot be where a server sees`: func(s *Spec) { s.Mounts[0].Target = "b" },
		`mount: "/" cannot be where a server sees`: func(s *Spec) { s.Mounts[0].Target = "/" },
		"mount: /c is the place of two folders":    func(s *Spec) { s.Mounts[0].Target = "/c" },
	} {
		s := good.complete()
		change(&s)
		err := s.Check()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestContainerName(t *testing.T) {
	name := func(gateway, id, role string) string {
		return containerName(&engine.Launch{Gateway: gateway, ID: id}, role)
	}
	if got := name("main", "gemma3-4b-1", roleServer); got != "main-gemma3-4b-1" {
		t.Errorf("got %s", got)
	}
	if got := name("main", "gemma3-4b-1", roleFetch); got != "main-gemma3-4b-1-fetch" {
		t.Errorf("got %s", got)
	}
	a, b := name("main", "org/m-1", roleServer), name("main", "org-m-1", roleServer)
	if a == b || !strings.HasPrefix(a, "main-org-m-1-") {
		t.Errorf("got %s and %s", a, b)
	}
	if got := name("-main", "ä-1", roleServer); !volume.MatchString(got) {
		t.Errorf("got %s", got)
	}
}
