package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/moby/moby/client"

	"github.com/vllm-gateway/vllm-gateway/internal/dockertest"
	"github.com/vllm-gateway/vllm-gateway/internal/simcard"
	"github.com/vllm-gateway/vllm-gateway/internal/simmodel"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// This file owns gateways that are processes of their own: they can be ended,
// killed and begun again on the same storage, and several tests can have one each
// at the same time.

// The engines of such gateways.
const (
	simulated = "simulated"
	docker    = "docker"
)

// caddyMain is Caddy as a program, which this test is when its first argument is
// one of Caddy's subcommands. One that runs ends with the test that began it,
// whatever ends that.
func caddyMain() {
	if os.Args[1] == "run" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
		}()
	}
	caddycmd.Main()
}

// apart is such a gateway.
type apart struct {
	*gateway
	engine string
	name   string         // the gateway's
	api    *client.Client // nil without Docker
	folder string         // of everything that it reads and writes
	cards  string         // below it: the simulated cards
	cardUp string         // the lines that declare them

	cmd   *exec.Cmd
	alive io.Closer // its standard input: what keeps it alive
	ended chan error
}

// newApart makes what a gateway needs, and nothing runs yet. cards are the lines
// that declare its simulated cards.
func newApart(t *testing.T, engine, cards string) *apart {
	t.Helper()
	a := &apart{engine: engine, name: "e2e-" + strings.ToLower(rand.Text()[:10]), cardUp: cards}
	if engine == docker {
		a.api = dockertest.Connect(t)
		dockertest.NothingLeft(t, a.api, a.name)
	}
	var err error
	// A short name, for the sockets below.
	if a.folder, err = os.MkdirTemp(home, "apart"); err != nil { //nolint:usetesting // the name of t.TempDir is as long as that of the test
		t.Fatal(err)
	}
	a.cards = filepath.Join(a.folder, "cards")
	for _, folder := range []string{a.cards, a.models()} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	tr := new(http.Transport)
	a.gateway = &gateway{plain: "http://" + address(t), client: &http.Client{Transport: tr}}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		if a.cmd != nil {
			a.end(t)
		}
		a.apartFromOneAnother(t)
		if t.Failed() {
			text, _ := os.ReadFile(a.log())
			t.Logf("the gateway's log:\n%s", text[max(0, len(text)-20000):])
		}
	})
	return a
}

// startApart runs a gateway until the test ends. options are lines of its global
// option.
func startApart(t *testing.T, engine, cards, options string) *apart {
	t.Helper()
	a := newApart(t, engine, cards)
	a.run(t, options)
	return a
}

func (a *apart) log() string    { return filepath.Join(a.folder, "caddy.log") }
func (a *apart) models() string { return filepath.Join(a.folder, "models") }
func (a *apart) socket() string { return filepath.Join(a.folder, "admin.sock") }

// model writes a model's folder, and returns the folder and the bytes of its weights.
func (a *apart) model(t *testing.T, name string, m simmodel.Llama) (folder string, weights int64) {
	t.Helper()
	folder = filepath.Join(a.models(), name)
	weights, err := simmodel.Write(folder, m)
	if err != nil {
		t.Fatal(err)
	}
	return folder, weights
}

// caddyfile is the configuration with some options.
func (a *apart) caddyfile(t *testing.T, options string) string {
	t.Helper()
	engine := "engine simulated {\n env VLLM_SIM_LOAD_TIME 200ms\n}"
	if a.engine == docker {
		engine = fmt.Sprintf(`engine docker {
			image %[1]s
			network %[2]s
			cache off
			compile_cache off
			gpu_access none
			mount %[3]q %[3]q
			mount %[4]q %[4]q ro
			env VLLM_SIM_LOAD_TIME 200ms
			stop_on_exit
		}`, dockertest.Image(t, a.api, "github.com/vllm-gateway/vllm-gateway/cmd/vllm-sim"), a.name, a.cards, a.models())
	}
	return fmt.Sprintf(`{
	admin unix/%[1]s
	persist_config off
	default_bind 127.0.0.1
	storage file_system %[2]q
	log {
		output file %[3]q
		level DEBUG
	}
	vramman {
		name %[4]s
		%[5]s
		gpus simulated {
			folder %[6]q
			%[7]s
		}
		%[8]s
	}
}
%[9]s {
	vllm_gateway
}
`, a.socket(), filepath.Join(a.folder, "storage"), a.log(), a.name, engine, a.cards, a.cardUp, options, a.plain)
}

// run starts the gateway's process, which has not begun or has ended.
func (a *apart) run(t *testing.T, options string) {
	t.Helper()
	file := filepath.Join(a.folder, "Caddyfile")
	if err := os.WriteFile(file, []byte(a.caddyfile(t, options)), 0o600); err != nil {
		t.Fatal(err)
	}
	a.cmd = a.self("run", "--config", file)
	alive, err := a.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	a.cmd.Stdout, a.cmd.Stderr = &said, &said
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a.alive, a.ended = alive, make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan<- error) {
		err := cmd.Wait()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, said.Bytes())
		}
		ended <- err
	}(a.cmd, a.ended)
	eventually(t, "the gateway serves", func() bool {
		select {
		case err := <-a.ended:
			a.cmd = nil
			t.Fatalf("the gateway has ended: %v", err)
		default:
		}
		res, err := a.client.Get(a.plain + "/health")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// self is this program as Caddy.
func (a *apart) self(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "HOME="+a.folder, "XDG_DATA_HOME="+a.folder, "XDG_CONFIG_HOME="+a.folder)
	return cmd
}

// apartFromOneAnother fails the test if two servers were at one card's memory
// together. Those that make room for a third, and all when the gateway ends, free
// theirs at the same time: nobody measures or takes any meanwhile, so that does no
// harm.
func (a *apart) apartFromOneAnother(t *testing.T) {
	t.Helper()
	overlaps, err := simcard.Overlaps(a.cards)
	frees := []simcard.Phase{simcard.Stopping, simcard.Sleeping}
	overlaps = slices.DeleteFunc(overlaps, func(o simcard.Overlap) bool {
		return slices.Contains(frees, o.Phase) && slices.Contains(frees, o.OtherPhase)
	})
	if err != nil || len(overlaps) > 0 {
		t.Errorf("servers were at one card's memory together: %v, %v", overlaps, err)
	}
}

// end ends the gateway as an operator does, and waits for its end.
func (a *apart) end(t *testing.T) {
	t.Helper()
	_ = a.cmd.Process.Signal(syscall.SIGTERM)
	if err := <-a.ended; err != nil {
		t.Errorf("the gateway's end: %v", err)
	}
	_ = a.alive.Close()
	a.cmd = nil
}

// kill ends the gateway at once.
func (a *apart) kill(t *testing.T) {
	t.Helper()
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-a.ended
	_ = a.alive.Close()
	a.cmd = nil
}

// ask sends a chat request that must be answered, and waits until the model is idle.
func (a *apart) ask(t *testing.T, model string) {
	t.Helper()
	if code, _, body := a.chat(t, model); code != http.StatusOK {
		t.Fatalf("%s: status %d: %s", model, code, body)
	}
	eventually(t, model+" is idle", func() bool { return a.status(t).model(model).Queue.Serving == 0 })
}

// instance is the newest of a model's instances; the zero InstanceStatus without any.
func (a *apart) instance(t *testing.T, model string) (found vramman.InstanceStatus) {
	t.Helper()
	for _, i := range a.status(t).Instances {
		if i.Model == model {
			found = i
		}
	}
	return found
}

// card is a card in the status.
func (a *apart) card(t *testing.T, uuid string) vramman.GPUStatus {
	t.Helper()
	all := a.status(t).GPUs
	k := slices.IndexFunc(all, func(g vramman.GPUStatus) bool { return g.UUID == uuid })
	if k < 0 {
		t.Fatalf("there is no %s among %+v", uuid, all)
	}
	return all[k]
}

// used is what is in use of a card, by everybody.
func (a *apart) used(t *testing.T, uuid string) int64 {
	t.Helper()
	c, err := simcard.Read(a.cards, uuid)
	if err != nil {
		t.Fatal(err)
	}
	return c.Used()
}

// hold takes VRAM of a card as a foreign program does, until the test ends or it
// is closed.
func (a *apart) hold(t *testing.T, uuid string, bytes int64) *simcard.Entry {
	t.Helper()
	e, err := simcard.Hold(a.cards, uuid, "foreign", bytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}
