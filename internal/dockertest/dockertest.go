// Package dockertest gives tests a real Docker: images built from scratch
// without a registry, and the certainty that a test leaves nothing behind.
//
// A test that needs Docker is skipped where there is none, and fails instead
// when REQUIRE_DOCKER is 1.
package dockertest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/client"
)

// Missing ends a test that lacks something which not every machine has: it is
// skipped, or fails if REQUIRE_DOCKER is 1.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("REQUIRE_DOCKER") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Connect returns a client of the Docker that DOCKER_HOST names, or the usual
// one. It is closed when the test ends.
func Connect(t testing.TB) *client.Client {
	t.Helper()
	api, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.Ping(t.Context(), client.PingOptions{}); err != nil {
		_ = api.Close()
		Missing(t, "no Docker: %v", err)
	}
	t.Cleanup(func() { _ = api.Close() })
	return api
}

// environ is the environment before any TestMain changed it: where the go command
// has its caches.
var environ = os.Environ()

// images are those that this process has made.
var images struct {
	sync.Mutex
	made     map[madeFor]string // their names
	programs map[string][]byte  // by package, a layer of each
}

// madeFor is what an image was made from, and on which Docker it is.
type madeFor struct{ host, pkg string }

// Image makes an image of nothing but a program, which is its entrypoint, and
// returns the image's name. The program is a package of this module, which is
// built static. A second call for the same package returns the same image.
func Image(t testing.TB, api *client.Client, pkg string) string {
	t.Helper()
	images.Lock()
	defer images.Unlock()
	key := madeFor{api.DaemonHost(), pkg}
	if name, ok := images.made[key]; ok {
		return name
	}
	base := filepath.Base(pkg)
	content, ok := images.programs[pkg]
	if !ok {
		var err error
		if content, err = layer("/"+base, Build(t, pkg)); err != nil {
			t.Fatal(err)
		}
		if images.programs == nil {
			images.programs = make(map[string][]byte)
		}
		images.programs[pkg] = content
	}
	name := "vllm-gateway-test/" + base + ":" + strings.ToLower(rand.Text()[:8])
	r, err := api.ImageImport(t.Context(), client.ImageImportSource{Source: bytes.NewReader(content), SourceName: "-"}, name,
		client.ImageImportOptions{Changes: []string{`ENTRYPOINT ["/` + base + `"]`, "ENV PATH=/", "LABEL vllm-gateway.test=1"}})
	if err != nil {
		t.Fatalf("importing %s: %v", name, err)
	}
	defer r.Close()
	if out, err := io.ReadAll(r); err != nil || bytes.Contains(out, []byte(`"error"`)) {
		t.Fatalf("importing %s: %v: %s", name, err, out)
	}
	if images.made == nil {
		images.made = make(map[madeFor]string)
	}
	images.made[key] = name
	return name
}

// forget is for a Docker that is gone, and its images with it.
func forget(host string) {
	images.Lock()
	defer images.Unlock()
	maps.DeleteFunc(images.made, func(of madeFor, _ string) bool { return of.host == host })
}

// Build builds a package of this module as a static program and returns its file.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), filepath.Base(pkg))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", file, pkg)
	cmd.Env = append(slices.Clone(environ), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return file
}

// layer is a file system of one program.
func layer(path, file string) ([]byte, error) {
	program, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	for _, h := range []*tar.Header{
		// Somewhere to write to, and for mounts to go.
		{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777},
		{Typeflag: tar.TypeReg, Name: path[1:], Mode: 0o755, Size: int64(len(program))},
	} {
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	err = w.Close()
	return content.Bytes(), err
}

// Run runs a package's tests and removes the images that they have made. It is
// for TestMain.
func Run(m *testing.M) int {
	code := m.Run()
	images.Lock()
	defer images.Unlock()
	if len(images.made) == 0 {
		return code
	}
	api, err := client.New(client.FromEnv)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer api.Close()
	for _, name := range images.made {
		if _, err := api.ImageRemove(context.Background(), name, client.ImageRemoveOptions{PruneChildren: true}); err != nil {
			fmt.Fprintf(os.Stderr, "the image %s remains: %v\n", name, err)
			code = 1
		}
	}
	return code
}

// Leftovers are the names of the containers, networks and volumes that bear any
// of the words in their names.
func Leftovers(ctx context.Context, api *client.Client, words ...string) ([]string, error) {
	var left []string
	note := func(kind, name string) {
		for _, w := range words {
			if strings.Contains(name, w) {
				left = append(left, kind+" "+name)
				return
			}
		}
	}
	containers, err := api.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return nil, err
	}
	for _, c := range containers.Items {
		note("container", strings.Join(c.Names, ","))
	}
	networks, err := api.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return nil, err
	}
	for _, n := range networks.Items {
		note("network", n.Name)
	}
	volumes, err := api.VolumeList(ctx, client.VolumeListOptions{})
	if err != nil {
		return nil, err
	}
	for _, v := range volumes.Items {
		note("volume", v.Name)
	}
	return left, nil
}

// NothingLeft fails a test, at its end, that leaves a container, network or
// volume with one of the words in its name.
func NothingLeft(t testing.TB, api *client.Client, words ...string) {
	t.Helper()
	t.Cleanup(func() {
		left, err := Leftovers(context.Background(), api, words...)
		if err != nil {
			t.Error(err)
		}
		if len(left) > 0 {
			t.Errorf("the test leaves %q", left)
		}
	})
}
