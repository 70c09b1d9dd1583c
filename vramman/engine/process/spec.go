// This file owns the engine's configuration and its identity.

package process

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// Spec configures a process engine.
type Spec struct {
	// Command is the program and its leading arguments, such as
	// ["vllm", "serve"]; the launch's arguments follow them. A program without
	// a slash is looked up in the server's PATH.
	Command []string
	// Env is further environment for every server, as KEY=VALUE, with
	// placeholders already resolved. It may hold secrets.
	Env []string
	// Simulated says that the servers only stand in for real ones: they load no
	// weights, and nobody need ask the hub about them.
	Simulated bool
}

// keySecret keys the digest of [Spec.Key]. A key is compared within this
// process only, so a new one per process serves, and makes the digest useless
// for guessing a short secret offline.
var keySecret = sync.OnceValue(func() []byte {
	secret := make([]byte, sha256.Size)
	rand.Read(secret) // never fails, see crypto/rand
	return secret
})

// Key is a keyed digest of the command and the environment. It changes with
// every value and reveals none; it means nothing to another process.
func (s Spec) Key() string {
	mac := hmac.New(sha256.New, keySecret())
	part := func(values []string) {
		// Lengths go in first, so that no two lists can run into each other.
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(values))))
		for _, v := range values {
			mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(v))))
			mac.Write([]byte(v))
		}
	}
	part(s.Command)
	part(engine.MergeEnv(s.Env))
	return "process:" + hex.EncodeToString(mac.Sum(nil))
}

// Open checks the configuration and makes the engine. It starts nothing and
// does not look for the program, which may be installed later.
func (s Spec) Open(_ context.Context, log *zap.Logger) (engine.Engine, error) {
	if len(s.Command) == 0 || s.Command[0] == "" {
		return nil, errors.New("process engine: no command is set: name the program that serves models, such as vllm serve")
	}
	for i, kv := range s.Env {
		// The entry itself stays out of the message: it may be a secret.
		if strings.IndexByte(kv, '=') < 1 || strings.IndexByte(kv, 0) >= 0 {
			return nil, fmt.Errorf("process engine: entry %d of its environment is not of the form KEY=VALUE", i+1)
		}
	}
	closing, end := context.WithCancel(context.Background())
	return &Engine{
		spec:    Spec{Command: slices.Clone(s.Command), Env: slices.Clone(s.Env), Simulated: s.Simulated},
		log:     log,
		closing: closing,
		close:   end,
		running: make(map[*instance]struct{}),
	}, nil
}

// Interface guard
var _ engine.Spec = Spec{}
