// This file owns the engine's configuration and its identity.

package docker

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// What holds where a spec says nothing.
const (
	// DefaultNetwork is the bridge that servers are put on.
	DefaultNetwork = "vllm-gateway"
	// DefaultShmSize is the size of each server's shared memory, in bytes. The
	// workers of a tensor-parallel server talk through it, for which Docker's
	// own 64 MiB are too little; memory is taken only as it is used.
	DefaultShmSize int64 = 16 << 30
)

// GPUAccess is the way by which a container gets its cards.
type GPUAccess string

// The ways.
const (
	// AccessNVIDIA has NVIDIA's container runtime give the cards. It is the default.
	AccessNVIDIA GPUAccess = "nvidia"
	// AccessCDI has Docker itself give them, as a Container Device Interface
	// specification describes them.
	AccessCDI GPUAccess = "cdi"
	// AccessNone gives none, and only names them in CUDA_VISIBLE_DEVICES: for
	// simulated cards, and for hosts that give every container all cards.
	AccessNone GPUAccess = "none"
)

// Spec configures a docker engine.
type Spec struct {
	// Gateway is the gateway's name. What bears it is this gateway's.
	Gateway string
	// Image is the image of every server that has none of its own.
	Image string
	// Network is the bridge that servers are put on, made where it is missing.
	// Empty means DefaultNetwork.
	Network string
	// Cache is where weights are kept, in the layout of Hugging Face's cache: a
	// folder of Docker's host by its full path, made where it is missing, or the
	// name of a volume. Empty: each server brings its own every time.
	Cache string
	// CacheHere is where the gateway sees the folder or volume of Cache, by its
	// full path. Empty: it is found out where the gateway runs in a container
	// that has it mounted, and is the folder itself on Docker's host.
	CacheHere string
	// CompileCache is where servers keep what they compile, a folder for each
	// image, so that a second start is faster: like Cache a folder or a volume.
	// Empty: they compile anew every time.
	CompileCache string
	// Env is further environment for every server, as KEY=VALUE, with
	// placeholders already resolved. It may hold secrets.
	Env []string
	// GPUAccess is how servers get their cards. Empty means AccessNVIDIA.
	GPUAccess GPUAccess
	// Publish is the address on which each server's port is published, only
	// "127.0.0.1". Empty: none is, and servers are reached on the bridge, which
	// only the host of Docker itself can do.
	Publish string
	// HostIPC puts servers into the host's IPC namespace, shared memory included.
	HostIPC bool
	// ShmSize is the size of each server's own shared memory, in bytes, without
	// HostIPC. 0 means DefaultShmSize.
	ShmSize int64
	// Mounts are further folders of the host, or volumes, for every server.
	Mounts []engine.Mount
	// StopOnExit has servers end with the gateway. Otherwise they go on.
	StopOnExit bool
	// Host is where Docker listens, such as "unix:///run/docker.sock". Empty
	// means what the environment says (DOCKER_HOST and its like), else Docker's
	// usual socket.
	Host string
}

// complete returns the spec with nothing missing that has a default.
func (s Spec) complete() Spec {
	s.Network = cmp.Or(s.Network, DefaultNetwork)
	s.GPUAccess = cmp.Or(s.GPUAccess, AccessNVIDIA)
	s.ShmSize = cmp.Or(s.ShmSize, DefaultShmSize)
	if s.HostIPC {
		s.ShmSize = 0
	}
	s.Env = engine.MergeEnv(s.Env)
	s.Mounts = slices.Clone(s.Mounts)
	return s
}

// keySecret keys the digest of [Spec.Key]. A key is compared within this
// process only, so a new one per process serves, and makes the digest useless
// for guessing a short secret offline.
var keySecret = sync.OnceValue(func() []byte {
	secret := make([]byte, sha256.Size)
	rand.Read(secret) // never fails, see crypto/rand
	return secret
})

// Key is a keyed digest of everything in the spec, defaults applied. It changes
// with every value and reveals none; it means nothing to another process.
func (s Spec) Key() string {
	mac := hmac.New(sha256.New, keySecret())
	// Encoding a struct of plain fields cannot fail.
	_ = json.NewEncoder(mac).Encode(s.complete())
	return "docker:" + hex.EncodeToString(mac.Sum(nil))
}

var (
	nameForm = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$`)
	volume   = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)
)

// SpecError is what is wrong with one option of a spec.
type SpecError struct {
	Option string // as the Caddyfile names it
	Why    string
}

func (e *SpecError) Error() string { return e.Option + ": " + e.Why }

func mistake(option, format string, args ...any) error {
	return &SpecError{option, fmt.Sprintf(format, args...)}
}

// ImageName implements [engine.Imager].
func (s Spec) ImageName() string { return s.Image }

// Check says what is wrong with the spec, as a [*SpecError]. It does no I/O.
func (s Spec) Check() error {
	switch {
	case !nameForm.MatchString(s.Gateway):
		return mistake("name", "%q cannot be part of a container's name: use letters, digits, '-', '_' and '.'", s.Gateway)
	case s.Network != "" && !nameForm.MatchString(s.Network):
		return mistake("network", "%q cannot be a network's name: use letters, digits, '-', '_' and '.'", s.Network)
	case slices.Contains([]string{"bridge", "host", "none", "default"}, s.Network):
		return mistake("network", "%q is Docker's own, in which servers could reach one another: name another one, which is made where it is missing", s.Network)
	case s.Publish != "" && s.Publish != "127.0.0.1":
		return mistake("publish", "%q is not supported: it must be 127.0.0.1, so that nobody else reaches the servers past the gateway", s.Publish)
	case s.HostIPC && s.ShmSize != 0:
		return mistake("shm_size", "it has no meaning with 'ipc host': remove one of them")
	case s.ShmSize < 0:
		return mistake("shm_size", "it is negative")
	case !slices.Contains([]GPUAccess{"", AccessNVIDIA, AccessCDI, AccessNone}, s.GPUAccess):
		return mistake("gpu_access", "'%s' is not one of nvidia, cdi, none", s.GPUAccess)
	}
	if err := checkStore("cache", s.Cache); err != nil {
		return err
	}
	switch {
	case s.CacheHere != "" && s.Cache == "":
		return mistake("cache", "there is none that the gateway could see at %s", s.CacheHere)
	case s.CacheHere != "" && !path.IsAbs(s.CacheHere):
		return mistake("cache", "%q cannot be where the gateway sees the cache: give a full path", s.CacheHere)
	}
	if err := checkStore("compile_cache", s.CompileCache); err != nil {
		return err
	}
	for i, kv := range s.Env {
		// The entry itself stays out of the message: it may be a secret.
		if strings.IndexByte(kv, '=') < 1 || strings.IndexByte(kv, 0) >= 0 {
			return mistake("env", "entry %d is not of the form KEY=VALUE", i+1)
		}
	}
	return CheckMounts(s.Mounts)
}

// checkStore looks at what is to be a folder of the host or a volume.
func checkStore(option, store string) error {
	switch {
	case store == "" || volume.MatchString(store):
		return nil
	case !path.IsAbs(store):
		return mistake(option, "%q is neither a folder's full path nor a volume's name", store)
	case strings.ContainsAny(store, ":\x00"):
		return mistake(option, "the path %q has a letter that Docker does not take", store)
	}
	return nil
}

// CheckMounts says what is wrong with mounts, as a [*SpecError].
func CheckMounts(mounts []engine.Mount) error {
	for i, m := range mounts {
		switch {
		case !path.IsAbs(m.Source) && !volume.MatchString(m.Source):
			return mistake("mount", "%q is neither a folder's full path nor a volume's name", m.Source)
		case !path.IsAbs(m.Target) || path.Clean(m.Target) == "/":
			return mistake("mount", "%q cannot be where a server sees a folder: give a full path below /", m.Target)
		case slices.ContainsFunc(mounts[:i], func(o engine.Mount) bool { return path.Clean(o.Target) == path.Clean(m.Target) }):
			return mistake("mount", "%s is the place of two folders", m.Target)
		}
	}
	return nil
}

// Open connects to Docker, makes the network where it is missing, and begins to
// listen for the end of containers.
func (s Spec) Open(ctx context.Context, log *zap.Logger) (engine.Engine, error) {
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("docker engine: %w", err)
	}
	d, err := connect(ctx, s.Host)
	if err != nil {
		return nil, fmt.Errorf("docker engine: %w", err)
	}
	me, err := d.findSelf(ctx, lookAround())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("docker engine: %w", err), d.close())
	}
	e := newEngine(s.complete(), d, me, log)
	if _, err := e.network(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("docker engine: %w", err), d.close())
	}
	e.sayWhere()
	e.work.Go(func() { e.watch(e.life) })
	return e, nil
}

// Interface guard
var _ engine.Spec = Spec{}
