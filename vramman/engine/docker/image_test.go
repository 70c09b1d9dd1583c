package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"

	"github.com/vllm-gateway/vllm-gateway/internal/dockertest"
)

// pushed makes an image of size random bytes, pushes it to a registry, and
// removes it from Docker.
func pushed(t *testing.T, r *rig, registry string, size int) string {
	t.Helper()
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	data := make([]byte, size)
	rand.Read(data)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "data", Mode: 0o600, Size: int64(size)}); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(data)
	_ = w.Close()
	name := registry + "/" + r.gateway + ":v1"
	in, err := r.api.ImageImport(t.Context(), client.ImageImportSource{Source: &content, SourceName: "-"}, name, client.ImageImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, in)
	in.Close()
	if err != nil {
		t.Fatal(err)
	}
	remove := func(ctx context.Context) error {
		return second(r.api.ImageRemove(ctx, name, client.ImageRemoveOptions{PruneChildren: true}))
	}
	t.Cleanup(func() {
		if err := remove(context.Background()); err != nil && !isMissing(err) {
			t.Error(err)
		}
	})
	out, err := r.api.ImagePush(t.Context(), name, client.ImagePushOptions{RegistryAuth: "e30"}) // {}
	if err == nil {
		err = out.Wait(t.Context())
	}
	if err == nil {
		err = remove(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// An image that is missing is pulled, with progress, and once.
func TestPull(t *testing.T) {
	r := newRig(t)
	registry := dockertest.Registry(t, false)
	e := open(t, r.spec())
	l := launch(t, r, "m-1")
	l.Image = pushed(t, r, registry, 24<<20)
	var stages []string
	l.Progress = func(stage string) { stages = append(stages, stage) }
	if err := e.Fetch(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	percent := regexp.MustCompile("^pulling " + regexp.QuoteMeta(l.Image) + `, \d+ %$`)
	if !slices.ContainsFunc(stages, percent.MatchString) || stages[0] != "pulling "+l.Image {
		t.Errorf("the stages are %q", stages)
	}
	stages = nil
	if err := e.Fetch(t.Context(), l); err != nil || len(stages) > 0 {
		t.Errorf("the second time the stages are %q: %v", stages, err)
	}
}

// A pull that is given up is an error, and goes on later.
func TestPullGivenUp(t *testing.T) {
	r := newRig(t)
	registry := dockertest.Registry(t, false)
	e := open(t, r.spec())
	l := launch(t, r, "m-1")
	l.Image = pushed(t, r, registry, 24<<20)
	ctx, cancel := context.WithCancel(t.Context())
	l.Progress = func(string) { cancel() }
	if err := e.Fetch(ctx, l); err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("fetch: %v", err)
	}
	l.Progress = nil
	if err := e.Fetch(t.Context(), l); err != nil {
		t.Error(err)
	}
}

// What keeps an image from being pulled is said in words.
func TestPullFails(t *testing.T) {
	r := newRig(t)
	registry := dockertest.Registry(t, false)
	locked := dockertest.Registry(t, true)
	e := open(t, r.spec())
	for image, want := range map[string]string{
		registry + "/model:nope":      "the registry does not have the image with this tag: correct 'image'",
		locked + "/model:v1":          "it needs a login",
		"127.0.0.1:1/model:v1":        "the registry cannot be reached",
		"registry.invalid/model:v1":   "the registry cannot be reached",
		"127.0.0.1:1/Not An Image:v1": "the name of the image is not valid",
	} {
		l := launch(t, r, "m-1")
		l.Image = image
		if err := e.Fetch(t.Context(), l); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), image) {
			t.Errorf("%s: %v\nwant %q", image, err, want)
		}
	}
	l := launch(t, r, "m-1")
	l.Image = registry + "/model:nope"
	if err := second(e.Start(t.Context(), l)); err == nil || !strings.Contains(err.Error(), "is not there any more") {
		t.Errorf("a start without its image: %v", err)
	}
}

// The share of what is pulled never claims more than is known.
func TestPulling(t *testing.T) {
	at := func(id, status string, got, size int64) jsonstream.Message {
		m := jsonstream.Message{ID: id, Status: status}
		if size > 0 {
			m.Progress = &jsonstream.Progress{Current: got, Total: size}
		}
		return m
	}
	p := pulling{image: "i"}
	for _, c := range []struct {
		m    jsonstream.Message
		want string
	}{
		{at("v1", "Pulling from model", 0, 0), "pulling i"},
		{at("a", "Pulling fs layer", 0, 0), "pulling i, 0 %"},
		{at("b", "Pulling fs layer", 0, 0), "pulling i, 0 %"},
		{at("a", "Downloading", 50, 100), "pulling i, 25 %"}, // b may be as large
		{at("a", "Download complete", 0, 0), "pulling i, 50 %"},
		{at("b", "Downloading", 0, 900), "pulling i, 10 %"}, // and is larger
		{at("b", "Downloading", 400, 900), "pulling i, 50 %"},
		{at("b", "Downloading", 850, 900), "pulling i, 95 %"},
		{at("b", "Verifying Checksum", 0, 0), "unpacking i, 0 of 2 layers"},
		{at("a", "Extracting", 3, 100), "unpacking i, 0 of 2 layers"},
		{at("a", "Pull complete", 0, 0), "unpacking i, 1 of 2 layers"},
		{at("b", "Pull complete", 0, 0), "pulling i"},
		{at("", "Status: Downloaded newer image for i", 0, 0), "pulling i"},
	} {
		if p.note(c.m); p.String() != c.want {
			t.Errorf("after %q of %q: %q, want %q", c.m.Status, c.m.ID, p.String(), c.want)
		}
	}
}
