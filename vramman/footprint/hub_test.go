package footprint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const sha = "0123456789abcdef0123456789abcdef01234567"

// standIn answers as the hub does, with the files on another host.
type standIn struct {
	*httptest.Server
	files    map[string][]byte
	asked    atomic.Int64 // requests
	served   atomic.Int64 // bytes of files
	mu       sync.Mutex
	strayed  string                                                // a token that another host got to see
	instead  func(http.ResponseWriter, *http.Request) (taken bool) // answers first
	elseware *httptest.Server
}

func newStandIn(t *testing.T) *standIn {
	s := &standIn{files: repository()}
	s.elseware = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.strayed += r.Header.Get("Authorization")
		s.mu.Unlock()
		b, ok := s.files[strings.TrimPrefix(r.URL.Path, "/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		counted := &counter{ResponseWriter: w, n: &s.served}
		http.ServeContent(counted, r, "", time.Time{}, bytes.NewReader(b))
	}))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if s.instead != nil && s.instead(w, r) {
			return
		}
		if r.Header.Get("Authorization") != "Bearer hf_secret" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		if r.URL.Path == "/api/models/org/name/revision/main" || r.URL.Path == "/api/models/org/name/revision/"+sha {
			type entry struct {
				Name string `json:"rfilename"`
				Size int    `json:"size"`
			}
			var list []entry
			for name, b := range s.files {
				list = append(list, entry{name, len(b)})
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"sha": sha, "siblings": list})
			return
		}
		name, ok := strings.CutPrefix(r.URL.Path, "/org/name/resolve/"+sha+"/")
		if !ok {
			http.NotFound(w, r)
			return
		}
		// The other host, by another name, with a signature in the address.
		http.Redirect(w, r, strings.Replace(s.elseware.URL, "127.0.0.1", "localhost", 1)+"/"+name+"?Signature=hidden", http.StatusFound)
	}))
	t.Cleanup(s.Server.Close)
	t.Cleanup(s.elseware.Close)
	return s
}

type counter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return c.ResponseWriter.Write(b)
}

func (s *standIn) hub(o HubOptions) *Hub {
	o.Endpoint, o.Token = s.URL, "hf_secret"
	return NewHub(o)
}

func TestLoadFromTheHub(t *testing.T) {
	s := newStandIn(t)
	large := s.files["model-00001-of-00002.safetensors"]
	s.files["model.extra.bin"] = bytes.Repeat(large, 100)
	hub := s.hub(HubOptions{Cache: NewFolderCache(filepath.Join(t.TempDir(), "kept"))})
	open := func(h *Hub, revision string) Model {
		t.Helper()
		src, err := h.Open(t.Context(), "org/name", revision)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Load(t.Context(), src)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := open(hub, "")
	if m.Revision != sha || fmt.Sprint(m.Weights) != fmt.Sprint(tinyWeights(t)) {
		t.Errorf("%+v", m)
	}
	if s.strayed != "" {
		t.Errorf("another host saw %q", s.strayed)
	}
	// A list, a config, an index, two headers; the second time only the list.
	if n := s.asked.Swap(0); n != 5 {
		t.Errorf("%d requests", n)
	}
	open(hub, "main")
	if n := s.asked.Swap(0); n != 1 {
		t.Errorf("%d requests for what was read before", n)
	}
	if src, err := hub.Open(t.Context(), "org/name", ""); err != nil {
		t.Error(err)
	} else if g, err := LoadGGUF(t.Context(), src, "Q4_K_M"); err != nil || g.Config.Type != "qwen3" {
		t.Errorf("%+v, %v", g, err)
	}
	// A hash that was seen is not asked for again.
	open(hub, sha)
	s.asked.Store(0)
	open(hub, sha)
	if n := s.asked.Load(); n != 0 {
		t.Errorf("%d requests for a hash", n)
	}
	// Nor is anything when offline, or when the hub is gone.
	offline := hub.options
	offline.Offline = true
	open(NewHub(offline), "main")
	if n := s.asked.Load(); n != 0 {
		t.Errorf("%d requests when offline", n)
	}
	if _, err := NewHub(offline).Open(t.Context(), "org/other", ""); err == nil || !strings.Contains(err.Error(), "offline") {
		t.Errorf("%v", err)
	}
	s.Server.Close()
	open(hub, "main")
	if _, err := hub.Open(t.Context(), "org/other", ""); err == nil || !strings.Contains(err.Error(), "cannot be reached") || strings.Contains(err.Error(), s.URL) {
		t.Errorf("%v", err)
	}
}

func TestHubReadsOnlyWhatItNeeds(t *testing.T) {
	s := newStandIn(t)
	big := file(tensor("model.big.weight", "U8", 3<<20))
	delete(s.files, "model.safetensors.index.json")
	for name := range s.files {
		if strings.HasSuffix(name, ".safetensors") {
			delete(s.files, name)
		}
	}
	s.files["model.safetensors"] = big
	src, err := s.hub(HubOptions{}).Open(t.Context(), "org/name", "")
	if err != nil {
		t.Fatal(err)
	}
	if m, err := Load(t.Context(), src); err != nil || m.Weights.Bytes() != 3<<20 {
		t.Errorf("%+v, %v", m, err)
	}
	if n := s.served.Load(); n > firstRead+4096 {
		t.Errorf("%d bytes were read of a header of %d", n, len(big)-3<<20)
	}
}

func TestHubReadsLongHeaders(t *testing.T) {
	s := newStandIn(t)
	var many []Tensor
	for i := range 4000 {
		many = append(many, tensor(fmt.Sprintf("model.an.expert.with.a.long.name.%05d.weight", i), "U8", 2))
	}
	delete(s.files, "model.safetensors.index.json")
	for name := range s.files {
		if strings.HasSuffix(name, ".safetensors") {
			delete(s.files, name)
		}
	}
	s.files["model.safetensors"] = file(many...)
	src, err := s.hub(HubOptions{}).Open(t.Context(), "org/name", "")
	if err != nil {
		t.Fatal(err)
	}
	if m, err := Load(t.Context(), src); err != nil || len(m.Weights.Tensors) != 4000 {
		t.Errorf("%d tensors, %v", len(m.Weights.Tensors), err)
	}
}

func TestHubRefusals(t *testing.T) {
	answer := func(code int, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(code)
			fmt.Fprint(w, body)
			return true
		}
	}
	for name, c := range map[string]struct {
		instead func(http.ResponseWriter, *http.Request) bool
		reason  string
	}{
		"gated":      {answer(403, "hf_secret"), "HF_TOKEN"},
		"not there":  {answer(404, ""), "check the name"},
		"broken":     {answer(500, ""), "answers 500"},
		"not a list": {answer(200, "<html>"), "not understood"},
		"no hash":    {answer(200, `{"sha": "../x", "siblings": []}`), "not understood"},
		"round and round": {func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, r.URL.Path+"?sig=hidden", http.StatusFound)
			return true
		}, "redirects for ever"},
	} {
		s := newStandIn(t)
		s.instead = c.instead
		_, err := s.hub(HubOptions{}).Open(t.Context(), "org/name", "")
		if err == nil || !strings.Contains(err.Error(), c.reason) || strings.Contains(err.Error(), "hf_secret") || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := newStandIn(t)
	for _, bad := range []string{"../..", "a/b/c", "org/na me", "", "org/..", "/org"} {
		if _, err := s.hub(HubOptions{}).Open(t.Context(), bad, ""); err == nil {
			t.Errorf("%q is asked for", bad)
		}
	}
	for _, bad := range []string{"../x", "a b", "-x", "a/../b"} {
		if _, err := s.hub(HubOptions{}).Open(t.Context(), "org/name", bad); err == nil {
			t.Errorf("revision %q is asked for", bad)
		}
	}
	if n := s.asked.Load(); n != 0 {
		t.Errorf("%d requests for bad names", n)
	}
}

func TestHubAnswersThatAreNotThePiece(t *testing.T) {
	for name, instead := range map[string]func(http.ResponseWriter){
		"the whole, from the beginning": func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, 1000)) },
		"another piece": func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 0-9/1000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(make([]byte, 10))
		},
		"less": func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 10-19/1000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(make([]byte, 5))
		},
		"no place": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(make([]byte, 10))
		},
		"beyond the end": func(w http.ResponseWriter) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) },
	} {
		s := newStandIn(t)
		src, err := s.hub(HubOptions{}).Open(t.Context(), "org/name", "")
		if err != nil {
			t.Fatal(err)
		}
		s.instead = func(w http.ResponseWriter, _ *http.Request) bool { instead(w); return true }
		if b, err := src.Read(t.Context(), "config.json", 10, 10); err == nil {
			t.Errorf("%s: %d bytes", name, len(b))
		}
	}
	// From the beginning the whole serves as well as a piece.
	s := newStandIn(t)
	src, err := s.hub(HubOptions{}).Open(t.Context(), "org/name", "")
	if err != nil {
		t.Fatal(err)
	}
	s.instead = func(w http.ResponseWriter, _ *http.Request) bool { _, _ = w.Write([]byte("0123456789")); return true }
	if b, err := src.Read(t.Context(), "config.json", 0, 4); err != nil || string(b) != "0123" {
		t.Errorf("%q, %v", b, err)
	}
	for _, bad := range []string{"../x", "/x"} {
		if _, err := src.Read(t.Context(), bad, 0, 4); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestHubStaysOnTLS(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect off TLS was followed") }))
	defer plain.Close()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL+"?Signature=hidden", http.StatusFound)
	}))
	defer s.Close()
	h := NewHub(HubOptions{Endpoint: s.URL, Token: "hf_secret", Client: s.Client()})
	if _, err := h.Open(t.Context(), "org/name", ""); err == nil || !strings.Contains(err.Error(), "without TLS") || strings.Contains(err.Error(), "hidden") {
		t.Errorf("%v", err)
	}
}

func TestHubDoesNotWaitForEver(t *testing.T) {
	s := newStandIn(t)
	s.instead = func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done() // until the client has left
		return true
	}
	_, err := s.hub(HubOptions{Timeout: time.Millisecond}).Open(t.Context(), "org/name", "")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestFolderCacheNoticesWhatIsTorn(t *testing.T) {
	path := t.TempDir()
	c := NewFolderCache(path)
	value := []byte("a value that is kept")
	if _, err := c.Load(t.Context(), "key"); err == nil {
		t.Error("something is there before it was kept")
	}
	for range 2 { // over itself
		if err := c.Store(t.Context(), "key", value); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := c.Load(t.Context(), "key"); err != nil || !bytes.Equal(b, value) {
		t.Errorf("%q, %v", b, err)
	}
	whole, err := os.ReadFile(c.file("key"))
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		torn := bytes.Clone(whole[:n])
		if err := os.WriteFile(c.file("key"), torn, 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := c.Load(t.Context(), "key"); err == nil {
			t.Fatalf("%d of %d bytes are taken for %q", n, len(whole), b)
		}
	}
	// A file under another's name is not its value.
	if err := os.WriteFile(c.file("other"), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := c.Load(t.Context(), "other"); err == nil {
		t.Errorf("%q", b)
	}
	left, err := filepath.Glob(filepath.Join(path, "new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v is left over", left)
	}
}
