package e2e

import (
	"io"
	"net"
	"net/http"
	"slices"
	"syscall"
	"testing"

	"github.com/moby/moby/client"
)

// This file owns looking at the servers of a gateway that is a process of its own, past
// the gateway.

// server is a model's server as the machine sees it.
type server struct {
	args    []string
	address string
	pid     int    // without Docker
	id      string // of its container
}

// server finds the server of a model's newest instance.
func (a *apart) server(t *testing.T, model string) (s server) {
	t.Helper()
	if a.engine == docker {
		instance := a.instance(t, model).ID
		r, err := a.api.ContainerList(t.Context(), client.ContainerListOptions{
			Filters: make(client.Filters).Add("label", "vllm-gateway.gateway="+a.name).Add("label", "vllm-gateway.instance="+instance),
		})
		if err != nil || len(r.Items) != 1 {
			t.Fatalf("the containers of %s are %+v: %v", instance, r.Items, err)
		}
		i, err := a.api.ContainerInspect(t.Context(), r.Items[0].ID, client.ContainerInspectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.id, s.args = i.Container.ID, i.Container.Args
		s.address = net.JoinHostPort(i.Container.NetworkSettings.Networks[a.name].IPAddress.String(), s.flag("--port"))
		return s
	}
	pid, args := serverProcess(t, a.cmd.Process.Pid, model)
	s = server{args: args, pid: pid}
	s.address = "127.0.0.1:" + s.flag("--port")
	return s
}

// flag is the value of one of the server's flags; empty: it has none.
func (s server) flag(name string) string {
	if k := slices.Index(s.args, name); k >= 0 && k+1 < len(s.args) {
		return s.args[k+1]
	}
	return ""
}

// killServer kills a model's server behind the gateway's back.
func (a *apart) killServer(t *testing.T, model string) {
	t.Helper()
	s := a.server(t, model)
	var err error
	if a.engine == docker {
		_, err = a.api.ContainerKill(t.Context(), s.id, client.ContainerKillOptions{})
	} else {
		err = syscall.Kill(s.pid, syscall.SIGKILL)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// get asks a server itself, past the gateway.
func (s server) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(text)
}
