package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/vllm-gateway/vllm-gateway/internal/dockertest"
)

// inContainer is a gateway that is a container of the Docker that it starts its
// servers on.
type inContainer struct {
	*dockerHouse
	container string
}

// startInContainer runs such a gateway with two models.
func startInContainer(t *testing.T) *inContainer {
	t.Helper()
	h := &inContainer{dockerHouse: &dockerHouse{
		api: dockertest.Connect(t), name: "e2e-" + strings.ToLower(rand.Text()[:10]), cards: t.TempDir(), began: time.Now(),
	}}
	socket, ok := strings.CutPrefix(h.api.DaemonHost(), "unix://")
	if !ok {
		dockertest.Missing(t, "Docker is not on this host, but at %s", h.api.DaemonHost())
	}
	dockertest.NothingLeft(t, h.api, h.name)
	folder := t.TempDir()
	err := os.WriteFile(filepath.Join(folder, "Caddyfile"), fmt.Appendf(nil, `{
	admin off
	vramman {
		name %[1]s
		engine docker {
			image %[2]s
			network %[1]s
			cache off
			compile_cache off
			gpu_access none
			mount %[3]q %[3]q
			env VLLM_SIM_LOAD_TIME 200ms
			stop_on_exit
			host unix:///run/docker.sock
		}
		gpus simulated {
			folder %[3]q
			gpu GPU-1 24GiB
		}
		defaults {
			vram 10GiB
		}
		model a {
			repo org/a
		}
		model b {
			repo org/b
		}
	}
}
:8080 {
	vllm_gateway
}
`, h.name, dockertest.Image(t, h.api, "github.com/vllm-gateway/vllm-gateway/cmd/vllm-sim"), h.cards), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	made, err := h.api.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Name: h.name + "-gateway",
		Config: &container.Config{
			Image: dockertest.Image(t, h.api, "github.com/vllm-gateway/vllm-gateway/cmd/caddy"),
			Cmd:   []string{"run", "--config", "/etc/caddy/Caddyfile"},
			Env:   []string{"XDG_DATA_HOME=/tmp/data", "XDG_CONFIG_HOME=/tmp/config"},
		},
		HostConfig: &container.HostConfig{
			Binds: []string{folder + ":/etc/caddy:ro", socket + ":/run/docker.sock", h.cards + ":" + h.cards},
			// Without it the locks on simulated cards hide their holders.
			PidMode: "host",
			Sysctls: map[string]string{"net.ipv4.ip_forward": "0"}, // as in deploy/compose.yaml
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.container = made.ID
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the gateway says:\n%s", h.said())
		}
		// Its servers are left, should it not have ended by itself.
		if _, err := h.api.ContainerRemove(context.Background(), h.container, client.ContainerRemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
	if _, err := h.api.ContainerStart(t.Context(), h.container, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	tr := new(http.Transport)
	t.Cleanup(tr.CloseIdleConnections)
	h.gateway = &gateway{
		plain:  "http://" + h.inspect(t, h.container).NetworkSettings.Networks["bridge"].IPAddress.String() + ":8080",
		client: &http.Client{Transport: tr},
	}
	eventually(t, "the gateway answers", func() bool {
		res, err := h.client.Get(h.plain + "/health")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return h
}

func (h *inContainer) inspect(t *testing.T, id string) container.InspectResponse {
	t.Helper()
	r, err := h.api.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Container
}

// said is the gateway's log.
func (h *inContainer) said() string {
	r, err := h.api.ContainerLogs(context.Background(), h.container, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	var text bytes.Buffer
	if _, err := stdcopy.StdCopy(&text, &text, r); err != nil {
		return err.Error()
	}
	return text.String()
}

// links are the bridges between the gateway and its servers, with the containers
// on each, by instance.
func (h *inContainer) links(t *testing.T) map[string][]string {
	t.Helper()
	found, err := h.api.NetworkList(t.Context(), client.NetworkListOptions{
		Filters: make(client.Filters).Add("label", "vllm-gateway.gateway="+h.name),
	})
	if err != nil {
		t.Fatal(err)
	}
	links := make(map[string][]string)
	for _, n := range found.Items {
		r, err := h.api.NetworkInspect(t.Context(), n.ID, client.NetworkInspectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		model, _, _ := strings.Cut(r.Network.Labels["vllm-gateway.instance"], "-")
		for id := range r.Network.Containers {
			links[model] = append(links[model], id)
		}
	}
	return links
}

// A gateway in a container starts its servers beside itself, reaches each on a
// bridge that nobody else is on, knows what each uses of its card, and ends all
// of them with itself.
func TestContainerGateway(t *testing.T) {
	h := startInContainer(t)
	before := h.inspect(t, h.container).NetworkSettings.Networks
	h.ask(t, "a")
	h.ask(t, "b")
	servers, links := h.containers(t), h.links(t)
	if len(servers) != 2 || len(links) != 2 {
		t.Errorf("the servers are %v and the bridges %v", servers, links)
	}
	for model, id := range servers {
		on := links[model]
		if len(on) != 2 || on[0] != id && on[1] != id || on[0] != h.container && on[1] != h.container {
			t.Errorf("on the bridge of %s are %v, not just its server and the gateway", model, on)
		}
		if n := len(h.inspect(t, id).NetworkSettings.Networks); n != 2 {
			t.Errorf("the server of %s is on %d networks", model, n)
		}
	}
	// What servers use is theirs, by the host's process numbers.
	if s := h.status(t); len(s.GPUs) != 1 || s.GPUs[0].Used == 0 || s.GPUs[0].Foreign != 0 {
		t.Errorf("the cards are %+v", s.GPUs)
	}
	if after := h.inspect(t, h.container).NetworkSettings.Networks; len(after) != len(before)+2 {
		t.Errorf("the gateway is on %d networks", len(after))
	}

	patience := 60
	if _, err := h.api.ContainerStop(t.Context(), h.container, client.ContainerStopOptions{Timeout: &patience}); err != nil {
		t.Fatal(err)
	}
	if state := h.inspect(t, h.container).State; state.ExitCode != 0 {
		t.Errorf("the gateway ended with status %d", state.ExitCode)
	}
	left, err := dockertest.Leftovers(t.Context(), h.api, h.name)
	if err != nil || len(left) != 1 { // itself
		t.Errorf("after its end there are %q: %v", left, err)
	}
}
