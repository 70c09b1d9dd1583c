// This file owns the labels by which the gateway knows its own containers and
// networks again, and the names that it gives them.

package docker

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strconv"
	"strings"
	"sync"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// The labels. Whoever looks at a container finds there whose it is and what it
// was started for; none of it is secret.
const (
	labelGateway  = "vllm-gateway.gateway"  // the gateway's name
	labelRun      = "vllm-gateway.run"      // the process of that gateway
	labelFormat   = "vllm-gateway.format"   // how to read the other labels
	labelRole     = "vllm-gateway.role"     // one of the roles below
	labelModel    = "vllm-gateway.model"    // the model's name
	labelInstance = "vllm-gateway.instance" // the instance's name, with its ordinal
	labelHash     = "vllm-gateway.hash"     // the launch hash
	labelGPUs     = "vllm-gateway.gpus"     // UUIDs, separated by commas
	labelCharge   = "vllm-gateway.charge"   // bytes on each of them
	labelNetwork  = "vllm-gateway.network"  // on networks: made by a gateway; those of one instance have its labels, too
)

// format is the version of the labels' meaning. A gateway reads no other.
const format = "1"

// What a container is for.
const (
	roleServer = "server"
	roleFetch  = "fetch"
	roleLink   = "link" // the bridge between an instance and the gateway's container
)

// run names this process. A new engine of a gateway that is being reloaded must
// not take the instances of the old one, which still serve, for leftovers.
var run = sync.OnceValue(rand.Text)

// labels are those of a container for a launch.
func labels(l *engine.Launch, role string) map[string]string {
	all := map[string]string{
		labelGateway:  l.Gateway,
		labelRun:      run(),
		labelFormat:   format,
		labelRole:     role,
		labelModel:    l.Model,
		labelInstance: l.ID,
	}
	if role == roleServer {
		maps.Copy(all, map[string]string{
			labelHash:   l.Hash,
			labelGPUs:   strings.Join(l.GPUs, ","),
			labelCharge: strconv.FormatInt(l.Charge, 10),
		})
	}
	return all
}

// containerName is the name of a launch's container. A model's name may have
// letters that Docker takes in no name; they are replaced, and a digest keeps
// apart what that makes alike.
func containerName(l *engine.Launch, role string) string {
	name := l.Gateway + "-" + l.ID
	clean := strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.ContainsRune("_.-", c):
			return c
		}
		return '-'
	}, name)
	if clean != name {
		sum := sha256.Sum256([]byte(name))
		clean += "-" + hex.EncodeToString(sum[:4])
	}
	if role != roleServer {
		clean += "-" + role
	}
	// The first letter decides whether Docker takes a name at all.
	return strings.TrimLeft(clean, "_.-")
}
