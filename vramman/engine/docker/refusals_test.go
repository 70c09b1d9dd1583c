// This file owns what registries, programs and old clients are refused for, as
// the shared Docker says it.

package docker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/mount"
	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// wantSaid checks that an error says a sentence, and what Docker itself said.
func wantSaid(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v\nwant %q", what, err, want)
		return
	}
	t.Logf("%s: %v", what, err)
}

// opens returns what keeps an engine from being opened.
func opens(t *testing.T, s Spec) error {
	t.Helper()
	e, err := s.Open(t.Context(), zap.NewNop())
	if err == nil {
		t.Cleanup(func() { _ = e.Close(context.Background()) })
	}
	return err
}

// noContainers checks that none of a gateway's is left.
func noContainers(t *testing.T, r *rig) {
	t.Helper()
	if found, err := (&daemon{r.api}).list(t.Context(), map[string]string{labelGateway: r.gateway}); err != nil || len(found) != 0 {
		t.Errorf("left: %v, %v", found, err)
	}
}

// What a registry refuses is said in words.
func TestRegistryRefuses(t *testing.T) {
	r := newRig(t)
	e := open(t, r.spec())
	const list = "application/vnd.docker.distribution.manifest.list.v2+json"
	var status int
	var kind, body string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/v2/") {
			return
		}
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	}))
	defer s.Close()
	for _, c := range []struct {
		name       string
		status     int
		kind, body string
		want       string
	}{
		{"too many", 429, "application/json", `{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your unauthenticated pull rate limit."}]}`, "answers no more requests for a while"},
		{"denied", 403, "application/json", `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`, loginNeeded},
		{"unauthorized", 401, "application/json", `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, loginNeeded},
		{"no repository", 404, "application/json", `{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}`, "the registry does not have an image of this name"},
		{"no tag", 404, "application/json", `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`, "the registry does not have the image with this tag"},
		{"another processor", 200, list, `{"schemaVersion":2,"mediaType":"` + list + `","manifests":[{"mediaType":"application/vnd.docker.distribution.manifest.v2+json",` +
			`"size":1,"digest":"sha256:` + strings.Repeat("0", 64) + `","platform":{"architecture":"s390x","os":"linux"}}]}`, "not made for the processor"},
	} {
		status, kind, body = c.status, c.kind, c.body
		l := launch(t, r, "m-1")
		l.Image = strings.TrimPrefix(s.URL, "http://") + "/model:v1"
		wantSaid(t, c.name, e.Fetch(t.Context(), l), c.want)
	}
}

// Programs that are there and cannot be run.
func TestProgramRefused(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign")
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "data"), nil, 0o600), os.WriteFile(foreign, []byte("no program"), 0o600), os.Chmod(foreign, 0o755),
	); err != nil {
		t.Fatal(err)
	}
	d := &daemon{r.api}
	for program, want := range map[string]string{
		"/programs/data": noProgram,
		"/programs/none": noProgram,
		"none":           noProgram,
	} {
		b := &blueprint{name: r.gateway + "-refused"}
		b.config.Image, b.config.Entrypoint = r.image, []string{program}
		b.host.Mounts = []mount.Mount{{Type: mount.TypeBind, Source: dir, Target: "/programs"}}
		id, err := d.create(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		wantSaid(t, program, d.start(t.Context(), id), want)
		if err := d.remove(context.Background(), id); err != nil {
			t.Error(err)
		}
	}

	// This one Docker runs: what becomes of it, the server's output tells.
	l := launch(t, r, "m-1")
	l.Image = imageWithout(t, r)
	l.Mounts = []engine.Mount{{Source: foreign, Target: "/nothing"}}
	s := start(t, open(t, r.spec()), l)
	if exit := s.ended(t); exit.Code <= 0 {
		t.Errorf("exit %+v", exit)
	}
	if rest := strings.Join(s.rest(), "\n"); !strings.Contains(rest, "made for another processor") {
		t.Errorf("it said %q", rest)
	}
}

// An image that is removed between the look at it and its use.
func TestImageGone(t *testing.T) {
	r := newRig(t)
	b := &blueprint{name: r.gateway + "-gone"}
	b.config.Image = "vllm-gateway-test/never:made"
	wantSaid(t, "create", second((&daemon{r.api}).create(t.Context(), b)), "somebody removed it")
}

// A version of the API that this Docker does not speak.
func TestVersionRefused(t *testing.T) {
	r := newRig(t)
	for version, want := range map[string]string{"1.10": "unset it, or update the gateway", "1.99": "unset it, or update Docker"} {
		t.Setenv("DOCKER_API_VERSION", version)
		wantSaid(t, version, opens(t, r.spec()), want)
	}
}
