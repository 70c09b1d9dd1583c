// This file owns the errors of Docker that users meet: what each means, and what
// to do about it.

package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/moby/client"
)

// cause is an error that users meet.
type cause struct {
	text []string // what Docker's message has in it, all of it, in lower case
	say  string   // what is wrong and what to do
}

// Sentences that several causes share.
const (
	noRuntime = "Docker cannot give containers NVIDIA cards: install NVIDIA's container toolkit on Docker's host, " +
		"run 'nvidia-ctk runtime configure --runtime=docker', and restart Docker"
	noCDI = "this Docker cannot give cards by CDI: take Docker 28.2 or later (from 25 on, with \"features\": {\"cdi\": true} in its daemon.json), " +
		"or set 'gpu_access nvidia'"
	unknownCDI = "the CDI specification does not have the card: make it anew with " +
		"'nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml', and compare 'nvidia-ctk cdi list' with the pool's cards"
	noDriver = "the NVIDIA driver is not loaded on Docker's host: install it, or load it again after an upgrade; 'nvidia-smi' must work there"
	noCard   = "NVIDIA's runtime does not know the card: compare 'nvidia-smi -L' on Docker's host with the pool's cards"
	oldDrv   = "the NVIDIA driver is older than the image needs: update it (images built with CUDA 13 need R580 or later), " +
		"or take an image for an older CUDA, such as one tagged -cu129"
	diskFull     = "the disk of Docker's host is full: make room ('docker system df' shows what Docker uses, 'docker image prune' removes unused images)"
	noProgram    = "the image lacks the program that it is to run, or the program cannot be executed there: check that the image is one of the server"
	tooOld       = "this Docker is too old: version 19.03 is the least, 20.10 or later is recommended"
	badReference = "the name of the image is not valid: correct 'image'"
	portTaken    = "the port that Docker chose for the server is taken by another program: try again, or remove 'publish'"
	noAddresses  = "Docker has no range of addresses left for another network: " +
		"remove unused ones with 'docker network prune', or widen default-address-pools in its daemon.json"
	forbidden = "a proxy in front of Docker forbids this: let through what the file deploy/compose.yaml does, and every folder that is mounted"
	wrongCPU  = "the image is made for another processor than that of Docker's host"
	firewall  = "Docker's firewall rules are gone, as after a restart of firewalld or iptables: restart Docker"
)

// causes are the errors of containers and networks, the special before the
// general. The texts are those of Docker 20.10 to 29, of runc, and of NVIDIA's
// container toolkit.
var causes = []cause{
	{[]string{`could not select device driver "cdi"`}, noCDI},
	{[]string{"cdi", "unresolvable cdi devices"}, unknownCDI},
	{[]string{"cdi device injection failed"}, unknownCDI},
	{[]string{"could not select device driver", "gpu"}, noRuntime},
	{[]string{"amd cdi spec not found"}, noRuntime},
	{[]string{"unknown runtime specified nvidia"}, noRuntime},
	{[]string{"unknown or invalid runtime name: nvidia"}, noRuntime},
	{[]string{"nvidia-container-runtime", "not found"}, noRuntime},
	{[]string{"nvidia-container-cli", "unsatisfied condition"}, oldDrv},
	{[]string{"nvidia-container-cli", "driver not loaded"}, noDriver},
	{[]string{"nvidia-container-cli", "driver/library version mismatch"}, noDriver},
	{[]string{"nvidia-container-cli", "libnvidia-ml.so"}, noDriver},
	{[]string{"nvidia-container-cli", "unknown device"}, noCard},

	{[]string{"no space left on device"}, diskFull},
	{[]string{"disk quota exceeded"}, diskFull},
	{[]string{"is already in use by container"}, "another container has the name that the server is to have, and it is not this gateway's: " +
		"remove or rename it, or give the gateway another 'name'"},
	{[]string{"invalid reference format"}, badReference},
	{[]string{"no such image"}, "Docker does not have the image any more: somebody removed it since it was pulled"},
	{[]string{"bind source path does not exist"}, "a folder that is to be mounted does not exist on Docker's host: make it, or correct 'mount'"},
	{[]string{"duplicate mount point"}, "two folders are to be mounted at one place: correct the 'mount' of the engine or of the model"},
	{[]string{"port is already allocated"}, portTaken},
	{[]string{"all ports are allocated"}, portTaken},
	{[]string{"address already in use"}, portTaken},
	{[]string{"iptables", "no chain/target/match by that name"}, firewall},
	{[]string{"non-overlapping", "address pool"}, noAddresses},
	{[]string{"predefined address pools have been fully subnetted"}, noAddresses},
	{[]string{"no available ipv4 addresses on this network"}, "the network has no address left for another server: " +
		"remove it (docker network rm) and widen default-address-pools in Docker's daemon.json, or name a larger one with 'network'"},
	{[]string{"private (none) mode"}, "the gateway's own container has no network, so it can share none with its servers: " +
		"take 'network_mode: none' away from it"},
	{[]string{"docker-init", "not found"}, "Docker's host lacks the program docker-init: install it (on Debian in the package tini)"},
	{[]string{`"ps"`, "executable file not found"}, "Docker's host lacks the program ps, by which the processes of a container are found: install procps"},
	{[]string{"executable file not found"}, noProgram},
	{[]string{"exec:", "no such file or directory"}, noProgram},
	{[]string{"exec:", "permission denied"}, noProgram},
	{[]string{"exec format error"}, wrongCPU},
	{[]string{"client version", "is too old"}, "this Docker is too new for the gateway, or DOCKER_API_VERSION is set: unset it, or update the gateway"},
	{[]string{"minimum supported api version"}, tooOld},
	{[]string{"error response from daemon: forbidden"}, forbidden},
	{[]string{"client version", "is too new"}, "DOCKER_API_VERSION is set to a version that this Docker does not have: unset it, or update Docker"},
}

// pullCauses are the errors of a pull.
var pullCauses = []cause{
	{[]string{"no space left on device"}, diskFull},
	{[]string{"manifest unknown"}, "the registry does not have the image with this tag: correct 'image'"},
	{[]string{"manifest for", "not found"}, "the registry does not have the image with this tag: correct 'image'"},
	{[]string{"not found: not found"}, "the registry does not have the image with this tag: correct 'image'"},
	{[]string{"failed to resolve reference", "not found"}, "the registry does not have the image with this tag: correct 'image'"},
	{[]string{"name unknown"}, "the registry does not have an image of this name: correct 'image'"},
	{[]string{"name not known to registry"}, "the registry does not have an image of this name: correct 'image'"},
	{[]string{"no matching manifest"}, "the image is not made for the processor of Docker's host: take another one"},
	{[]string{"toomanyrequests"}, "the registry answers no more requests for a while: wait, or log in on Docker's host and pull the image there by hand"},
	{[]string{"pull access denied"}, loginNeeded},
	{[]string{"unauthorized"}, loginNeeded},
	{[]string{"no basic auth credentials"}, loginNeeded},
	{[]string{"authentication required"}, loginNeeded},
	{[]string{"denied"}, loginNeeded},
	{[]string{"invalid reference format"}, badReference},
	{[]string{"server gave http response to https client"}, "the registry speaks plain HTTP, which Docker allows only if it stands under insecure-registries in its daemon.json"},
	{[]string{"x509"}, "Docker does not trust the certificate of the registry: install its authority's certificate on Docker's host"},
	{[]string{"no such host"}, unreachableRegistry},
	{[]string{"connection refused"}, unreachableRegistry},
	{[]string{"i/o timeout"}, unreachableRegistry},
	{[]string{"client.timeout exceeded"}, unreachableRegistry},
	{[]string{"network is unreachable"}, unreachableRegistry},
	{[]string{"proxyconnect"}, unreachableRegistry},
}

const (
	loginNeeded = "the registry refuses the image: it does not exist, or it needs a login, which the gateway does not have: " +
		"correct 'image', or run 'docker login' and 'docker pull' on Docker's host"
	unreachableRegistry = "the registry cannot be reached from Docker's host: check its network, name service and proxy settings, " +
		"or bring the image by hand with 'docker pull' or 'docker load'"
)

// find finds the cause of a message.
func find(among []cause, message string) (cause, bool) {
	message = strings.ToLower(message)
next:
	for _, c := range among {
		for _, text := range c.text {
			if !strings.Contains(message, text) {
				continue next
			}
		}
		return c, true
	}
	return cause{}, false
}

// explain puts in front of an error of Docker what it means for the user.
func explain(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case isConnection(err):
		return explainConnection(err)
	}
	if c, ok := find(causes, err.Error()); ok {
		return &explained{c.say, err}
	}
	return err
}

// explainPull does so with an error of a pull.
func explainPull(err error) error {
	if err == nil || isConnection(err) || errors.Is(err, context.Canceled) {
		return explain(err)
	}
	if c, ok := find(pullCauses, err.Error()); ok {
		return &explained{c.say, err}
	}
	return err
}

// explained is an error of Docker with what it means.
type explained struct {
	say string
	err error
}

func (e *explained) Error() string { return fmt.Sprintf("%s (Docker says: %v)", e.say, e.err) }

func (e *explained) Unwrap() error { return e.err }

// Explanation implements [engine.Explained].
func (e *explained) Explanation() string { return e.say }

// isConnection says whether Docker could not be talked to at all.
func isConnection(err error) bool { return client.IsErrConnectionFailed(err) }

func explainConnection(err error) error {
	if strings.Contains(err.Error(), "permission denied") {
		return fmt.Errorf("the gateway's user may not talk to Docker: add it to the group docker (usermod -aG docker USER) and start the gateway anew, "+
			"or set 'host' to a socket that it may use: %w", err)
	}
	return fmt.Errorf("there is no Docker to talk to: start it (systemctl start docker), or set 'host' or DOCKER_HOST to where it listens: %w", err)
}

// isMissingProgram says whether an image lacks the program it was to run.
func isMissingProgram(err error) bool {
	e, ok := errors.AsType[*explained](err)
	return ok && e.say == noProgram
}

// isMissingNetwork says whether a container's network is not there any more.
func isMissingNetwork(err error) bool {
	return err != nil && strings.Contains(err.Error(), "network") && isMissing(err)
}

// isInUse says whether a network has containers on it.
func isInUse(err error) bool {
	return err != nil && strings.Contains(err.Error(), "has active endpoints")
}
