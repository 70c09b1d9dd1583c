package caddymodule

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// write replaces a file.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestParseKeys(t *testing.T) {
	ring, err := parseKeys([]byte("\ufeff" + `{"keys": [
		{"name": "alice", "key": "` + hashed("sk-alice") + `", "models": ["a"], "class": 2, "admin": true,
		 "max_concurrent": 4, "expires": "2027-01-31T12:00:00+01:00"},
		{"name": "bob", "key": " sk-{bob} "}
	]}`))
	if err != nil {
		t.Fatal(err)
	}
	alice, bob := ring.find("sk-alice"), ring.find("sk-{bob}")
	if alice == nil || bob == nil {
		t.Fatalf("got %+v", ring)
	}
	if c := alice.caller; c.Name != "alice" || !c.May("a") || c.May("b") || c.Class != 2 || !c.Admin || c.MaxConcurrent != 4 ||
		!alice.expires.Equal(time.Date(2027, 1, 31, 11, 0, 0, 0, time.UTC)) {
		t.Errorf("alice is %+v, until %v", c, alice.expires)
	}
	if c := bob.caller; !c.May("b") || c.Admin || !bob.expires.IsZero() || !bob.short {
		t.Errorf("bob is %+v, until %v", c, bob.expires)
	}
	if ring, err := parseKeys([]byte(`{"keys": []}`)); err != nil || len(ring) != 0 {
		t.Errorf("an empty list: %v, %v", ring, err)
	}
}

// keyFileMistakes have s3cr3t wherever a key may stand.
var keyFileMistakes = []struct{ name, content, want string }{
	{"empty", ``, `it must be one JSON object with the list "keys"`},
	{"no list", `{}`, `it is without the list "keys"`},
	{"null", `null`, `it is without the list "keys"`},
	{"a list alone", `["sk-s3cr3t"]`, `it must be one JSON object`},
	{"other members", `{"sk-s3cr3t": "alice"}`, `it must be one JSON object`},
	{"lines of text", "alice sk-s3cr3t\n", "line 1: this is not valid JSON"},
	{"broken", "{\"keys\": [\n{\"name\": \"alice\", \"key\": \"sk-s3cr3t\"},\n]}", "line 3: this is not valid JSON"},
	{"cut off", `{"keys": [{"name": "alice", "key": "sk-s3cr3t`, `it must be one JSON object`},
	{"something behind", `{"keys": []} "sk-s3cr3t"`, `it must be one JSON object`},
	{"a text as key", `{"keys": ["sk-s3cr3t"]}`, "key 1: it must be an object"},
	{"key by name", `{"keys": [{"alice": "sk-s3cr3t"}]}`, "key 1: 'alice' is no member of a key"},
	{"name by key", `{"keys": [{"sk-s3cr3t": "alice"}]}`, "key 1: a word that is not shown here, as it may be a key, is no member of a key"},
	{"unknown member", `{"keys": [{"name": "alice", "key": "sk-s3cr3t", "modles": []}]}`, "key 1: 'modles' is no member of a key"},
	{"wrong type", `{"keys": [{"name": "a", "key": "sk-s3cr3t"}, {"name": "b", "key": ["sk-s3cr3t"]}]}`, "key 2: key must be a text"},
	{"wrong type of class", `{"keys": [{"name": "alice", "key": "sk-s3cr3t", "class": "sk-s3cr3t"}]}`, "key 1: class must be a whole number"},
	{"wrong type of admin", `{"keys": [{"name": "alice", "key": "sk-s3cr3t", "admin": 1}]}`, "key 1: admin must be true or false"},
	{"one model", `{"keys": [{"name": "alice", "key": "sk-s3cr3t", "models": "a"}]}`, "key 1: models must be a list"},
	{"expiry", `{"keys": [{"name": "alice", "key": "sk-s3cr3t", "expires": "sk-s3cr3t"}]}`, "key 1: expires must be a time such as"},
	{"expiry that is a number", `{"keys": [{"name": "alice", "key": "sk-s3cr3t", "expires": 1}]}`, "key 1: expires must be a time such as"},
	{"null as a key", `{"keys": [null]}`, "key 1 is without a name"},
	{"no models", `{"keys": [{"name": "alice", "key": "sk-s3cr3t", "models": []}]}`, "key alice: models is empty"},
	{"bad hash", `{"keys": [{"name": "alice", "key": "sha256:s3cr3t"}]}`, "key alice: 'sha256:' must be followed"},
}

func TestMistakesInKeyFile(t *testing.T) {
	for _, tt := range keyFileMistakes {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseKeys([]byte(tt.content))
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Fatalf("got error %v, want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("the error shows a part of a key: %v", err)
			}
		})
	}
}

// FuzzParseKeys shows that whatever stands in the file, reading it ends well, and
// that what it gives is complete.
func FuzzParseKeys(f *testing.F) {
	for _, tt := range keyFileMistakes {
		f.Add([]byte(tt.content))
	}
	f.Add([]byte(`{"keys": [{"name": "alice", "key": "` + hashed("x") + `", "models": ["a"], "expires": "2027-01-31T00:00:00Z"}]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		ring, err := parseKeys(content)
		for i := range ring {
			if c := ring[i].caller; err != nil || c.Name == "" || c.Models != nil && len(c.Models) == 0 || c.MaxConcurrent < 0 {
				t.Errorf("%v, %+v", err, c)
			}
		}
	})
}

// TestKeyFileChanges plays the life of a file that is watched.
func TestKeyFileChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	one := `{"keys": [{"name": "one", "key": "` + hashed("sk-1") + `"}]}`
	two := `{"keys": [{"name": "two", "key": "` + hashed("sk-2") + `"}]}`
	write(t, path, one)
	core, logs := observer.New(zap.DebugLevel)
	synctest.Test(t, func(t *testing.T) {
		k := &Keys{own: ringOf(t, &Key{Name: "own", Key: hashed("sk-own")})}
		file := &keyFile{path: path}
		ring, changed, err := file.read()
		if err != nil || !changed || k.use(ring) != nil {
			t.Fatal(ring, changed, err)
		}
		done := make(chan struct{})
		go file.watch(done, zap.New(core), k.use)
		for _, step := range []struct {
			name   string
			change func()
			has    string // the key of the file that is good
			logged string // at this step, once
		}{
			{"nothing", func() {}, "sk-1", ""},
			{"touched", func() { write(t, path, one) }, "sk-1", ""},
			{"changed", func() { write(t, path, two) }, "sk-2", "read again"},
			{"half written", func() { write(t, path, two[:20]) }, "sk-2", "cannot be used"},
			{"nothing new", func() {}, "sk-2", ""},
			{"gone", func() { os.Remove(path) }, "sk-2", "cannot be used"},
			{"still gone", func() {}, "sk-2", ""},
			{"the same is there again", func() { write(t, path, two) }, "sk-2", "read again"},
			{"a name that the configuration has", func() { write(t, path, strings.Replace(one, `"one"`, `"own"`, 1)) }, "sk-2", "cannot be used"},
			{"replaced", func() {
				write(t, path+".new", one)
				if err := os.Rename(path+".new", path); err != nil {
					t.Error(err)
				}
			}, "sk-1", "read again"},
			{"too large", func() { write(t, path, one+strings.Repeat(" ", maxKeyFile)) }, "sk-1", "cannot be used"},
			{"emptied", func() { write(t, path, `{"keys": []}`) }, "", "read again"},
		} {
			step.change()
			logs.TakeAll()
			time.Sleep(3 * keyFileEvery) // of the bubble's own clock
			synctest.Wait()
			ring := *k.ring.Load()
			for _, key := range []string{"sk-1", "sk-2", "sk-own"} {
				if want := key == step.has || key == "sk-own"; want != (ring.find(key) != nil) {
					t.Errorf("%s: %s is good: %t", step.name, key, !want)
				}
			}
			entries := logs.TakeAll()
			if step.logged == "" && len(entries) > 0 || step.logged != "" && (len(entries) != 1 || !strings.Contains(entries[0].Message, step.logged)) {
				t.Errorf("%s: the log says %v, want %q once", step.name, entries, step.logged)
			}
		}
		close(done)
	})
}
