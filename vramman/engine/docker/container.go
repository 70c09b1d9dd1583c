// This file owns what a server's container is made of: command, environment,
// mounts, cards, limits.

package docker

import (
	"cmp"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// Where servers see their caches.
const (
	cacheTarget   = "/root/.cache/huggingface"
	compileTarget = "/root/.cache/vllm-gateway"
)

// spareGrace is for how long Docker lets a server end by itself when it is not
// the gateway that has it stopped, and so no grace is known: `docker stop`, or
// the end of Docker.
const spareGrace = 30 * time.Second

// blueprint is a container that is to be made.
type blueprint struct {
	name   string
	config container.Config
	host   container.HostConfig
}

// server is the blueprint of a launch's server, on a network and from the image
// with the given digest.
func (s *Spec) server(l *engine.Launch, networkID, imageID string) *blueprint {
	b := s.basis(l, roleServer, networkID)
	b.config.Cmd = l.Args(engine.Listen{Host: "0.0.0.0", Port: int(port.Num())})
	b.config.Env = engine.MergeEnv(s.cacheEnv(), s.compileEnv(imageID), s.Env, s.visible(l.GPUs), l.Env)
	b.config.StopTimeout = new(int(max(spareGrace, l.StopGrace) / time.Second))
	b.config.ExposedPorts = network.PortSet{port: {}}
	// Servers leave dead children behind, and a first process without handlers
	// of its own ignores signals.
	b.host.Init = new(true)
	b.host.DeviceRequests = s.devices(l.GPUs)
	b.host.ShmSize = s.ShmSize
	if s.HostIPC {
		b.host.IpcMode = container.IPCModeHost
	}
	if s.CompileCache != "" {
		b.host.Binds = append(b.host.Binds, s.CompileCache+":"+compileTarget)
	}
	if s.Publish != "" {
		// Without a port Docker takes a free one.
		b.host.PortBindings = network.PortMap{port: {{HostIP: netip.MustParseAddr(s.Publish)}}}
	}
	return b
}

// fetcher is the blueprint of the container that brings a launch's weights: the
// same image and the same caches, another program, and no card. Nor has it an
// init process, so that Docker itself says when the program is not there.
func (s *Spec) fetcher(l *engine.Launch, networkID string) *blueprint {
	b := s.basis(l, roleFetch, networkID)
	b.config.Entrypoint = l.FetchCommand[:1]
	b.config.Cmd = l.FetchCommand[1:]
	b.config.Env = engine.MergeEnv(s.cacheEnv(), s.Env, noCards, l.Env)
	return b
}

// basis is what all containers of a launch have in common.
func (s *Spec) basis(l *engine.Launch, role, networkID string) *blueprint {
	b := &blueprint{
		name: containerName(l, role),
		config: container.Config{
			Image:  cmp.Or(l.Image, s.Image),
			Labels: labels(l, role),
		},
		host: container.HostConfig{
			NetworkMode:   container.NetworkMode(networkID),
			RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		},
	}
	if s.Cache != "" {
		// A bind, unlike a mount, makes a folder that is missing.
		b.host.Binds = append(b.host.Binds, s.Cache+":"+cacheTarget)
	}
	for _, m := range slices.Concat(s.Mounts, l.Mounts) {
		kind := mount.TypeBind
		if !path.IsAbs(m.Source) {
			kind = mount.TypeVolume
		}
		b.host.Mounts = append(b.host.Mounts, mount.Mount{Type: kind, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	return b
}

// cacheEnv points Hugging Face's client to the cache, wherever the image's user
// has its home.
func (s *Spec) cacheEnv() []string {
	if s.Cache == "" {
		return nil
	}
	return []string{"HF_HOME=" + cacheTarget}
}

// compileEnv points vLLM, and what it compiles with, to a folder of the image's
// own: what one build has compiled is of no use to another.
func (s *Spec) compileEnv(imageID string) []string {
	if s.CompileCache == "" {
		return nil
	}
	_, digest, _ := strings.Cut(imageID, ":")
	folder := path.Join(compileTarget, digest[:min(12, len(digest))])
	return []string{
		"VLLM_CACHE_ROOT=" + folder + "/vllm",
		"TRITON_CACHE_DIR=" + folder + "/triton",
		"FLASHINFER_WORKSPACE_BASE=" + folder,
	}
}

// noCards keeps a host whose standard runtime is NVIDIA's from giving a
// container all cards, as many images ask it to.
var noCards = []string{"NVIDIA_VISIBLE_DEVICES=void", "CUDA_VISIBLE_DEVICES="}

// visible is the environment that confines a server to its cards where the
// container has others, too. Where it has not, their numbers in the container
// do, which all programs understand.
func (s *Spec) visible(gpus []string) []string {
	switch {
	case len(gpus) == 0:
		return noCards
	case s.GPUAccess == AccessNone:
		return []string{"CUDA_VISIBLE_DEVICES=" + strings.Join(gpus, ",")}
	}
	return nil
}

// devices asks for the cards of the given UUIDs.
func (s *Spec) devices(gpus []string) []container.DeviceRequest {
	if len(gpus) == 0 {
		return nil
	}
	switch s.GPUAccess {
	case AccessNVIDIA:
		return []container.DeviceRequest{{Driver: "nvidia", DeviceIDs: gpus, Capabilities: [][]string{{"gpu"}}}}
	case AccessCDI:
		ids := make([]string, len(gpus))
		for i, uuid := range gpus {
			ids[i] = "nvidia.com/gpu=" + uuid
		}
		return []container.DeviceRequest{{Driver: "cdi", DeviceIDs: ids}}
	}
	return nil
}
