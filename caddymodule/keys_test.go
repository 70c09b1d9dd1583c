// This file tests what keys may be, and what becomes of them.

package caddymodule

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// hashed is a key in its hashed form.
func hashed(key string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(key))) }

// ringOf makes a keyring.
func ringOf(t *testing.T, keys ...*Key) keyring {
	t.Helper()
	if err := checkKeys(keys); err != nil {
		t.Fatal(err)
	}
	ring, err := storedKeys(keys, (*Key).resolved)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// TestKeyForms shows that a key is the same in each form.
func TestKeyForms(t *testing.T) {
	const key = "sk-0123456789abcdefghijkl"
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key+"\r\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VLLM_GATEWAY_TEST_KEY", key)
	t.Setenv("VLLM_GATEWAY_TEST_HASH", hashed(key))
	for _, form := range []string{
		key, "{env.VLLM_GATEWAY_TEST_KEY}", "{env.VLLM_GATEWAY_TEST_HASH}", "{file." + file + "}", hashed(key),
		"sha256:" + strings.ToUpper(strings.TrimPrefix(hashed(key), "sha256:")),
	} {
		ring := ringOf(t, &Key{Name: "other", Key: "sk-of-somebody-else-entirely"}, &Key{Name: "alice", Key: form})
		if s := ring.find(key); s == nil || s.caller.Name != "alice" {
			t.Errorf("%s: found %+v", form, s)
		}
		for _, wrong := range []string{"", key + "x", key[1:], strings.ToUpper(key), form + "x", hashed(key)} {
			if s := ring.find(wrong); s != nil {
				t.Errorf("%s: %q is taken for the key of %s", form, wrong, s.caller.Name)
			}
		}
	}
}

// TestEveryKeyIsCompared shows that a search does the same work, whether and where
// it finds the key.
func TestEveryKeyIsCompared(t *testing.T) {
	var keys []*Key
	for n := range 10 {
		keys = append(keys, &Key{Name: fmt.Sprintf("k%d", n), Key: fmt.Sprintf("sk-0123456789abcdefgh-%d", n)})
	}
	ring := ringOf(t, keys...)
	for _, presented := range []string{keys[0].Key, keys[4].Key, keys[9].Key, "sk-wrong", ""} {
		compared := 0
		found := ring.findBy(presented, func(x, y []byte) int {
			if compared++; len(x) != sha256.Size || len(y) != sha256.Size {
				t.Errorf("%d bytes are compared with %d", len(x), len(y))
			}
			return subtle.ConstantTimeCompare(x, y)
		})
		if compared != len(keys) {
			t.Errorf("%q was compared with %d keys of %d", presented, compared, len(keys))
		}
		if right := strings.HasPrefix(presented, "sk-0"); right != (found != nil) {
			t.Errorf("%q: found %v", presented, found)
		}
	}
}

func TestMistakesOfKeys(t *testing.T) {
	t.Setenv("VLLM_GATEWAY_TEST_EMPTY", "")
	unset(t, "VLLM_GATEWAY_TEST_UNSET")
	const secret = "sk-s3cr3t0123456789abcdef"
	key := func(k Key) []*Key { return []*Key{&k} }
	for _, tt := range []struct {
		name string
		keys []*Key
		want string
	}{
		{"no name", key(Key{Key: secret}), "key 1 is without a name"},
		{"null", []*Key{nil}, "key 1 is without a name"},
		{"no key", key(Key{Name: "alice"}), "key alice is empty"},
		{"name and key mixed up", key(Key{Name: secret, Key: "alice"}), "key 1: its name looks like a key"},
		{"name with a space", key(Key{Name: "s3cr3t alice", Key: secret}), "key 1: its name must be"},
		{"long name", key(Key{Name: strings.Repeat("s3cr3t", 11), Key: secret}), "key 1: its name must be"},
		{"name twice", []*Key{{Name: "alice", Key: secret}, {Name: "alice", Key: secret + "x"}}, "key alice is already defined"},
		{"empty placeholder", key(Key{Name: "alice", Key: "{env.VLLM_GATEWAY_TEST_EMPTY}"}), "key alice is empty: set the variable"},
		{"variable that is not set", key(Key{Name: "alice", Key: "s3cr3t-{env.VLLM_GATEWAY_TEST_UNSET}"}), "key alice is empty: set the variable"},
		{"file that is not there", key(Key{Name: "alice", Key: "{file.testdata/none}"}), "key alice is empty"},
		{"unknown placeholder", key(Key{Name: "alice", Key: "{s3cr3t}"}), "key alice has a placeholder that Caddy does not know"},
		{"half a hash", key(Key{Name: "alice", Key: "sha256:5ec4"}), "key alice: 'sha256:' must be followed by 64 hexadecimal digits"},
		{"hash of other letters", key(Key{Name: "alice", Key: "sha256:" + strings.Repeat("s3cr3t", 11)[:64]}), "must be followed by 64 hexadecimal digits"},
		{"key with a space", key(Key{Name: "alice", Key: "s3cr3t s3cr3t"}), "key alice has a space"},
		{"key with a line", key(Key{Name: "alice", Key: "s3cr3t\ns3cr3t"}), "key alice has a space"},
		{"long key", key(Key{Name: "alice", Key: strings.Repeat("s3cr3t", 100)}), "key alice is longer than 512 bytes"},
		{"no models", key(Key{Name: "alice", Key: secret, Grant: Grant{Models: []string{}}}), "key alice: models is empty"},
		{"empty model", key(Key{Name: "alice", Key: secret, Grant: Grant{Models: []string{""}}}), "key alice: models has an empty value"},
		{"class", key(Key{Name: "alice", Key: secret, Grant: Grant{Class: 101}}), "key alice: class must be from -100 to 100"},
		{"limit", key(Key{Name: "alice", Key: secret, Grant: Grant{MaxConcurrent: -1}}), "key alice: max_concurrent must be at least 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := checkKeys(tt.keys)
			if err == nil {
				_, err = storedKeys(tt.keys, (*Key).resolved)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got error %v, want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "5ec4") {
				t.Errorf("the error shows a part of a key: %v", err)
			}
		})
	}
}

func TestSameKeyTwice(t *testing.T) {
	const key = "sk-0123456789abcdefghijkl"
	k := &Keys{own: ringOf(t, &Key{Name: "alice", Key: key})}
	for _, tt := range []struct {
		further *Key
		want    string
	}{
		{&Key{Name: "bob", Key: hashed(key)}, "key alice and key bob are one and the same key"},
		{&Key{Name: "alice", Key: key + "x"}, "key alice is already defined"},
	} {
		if err := k.use(ringOf(t, tt.further)); err == nil || err.Error() != tt.want {
			t.Errorf("got error %v, want %q", err, tt.want)
		}
	}
	if err := k.use(ringOf(t, &Key{Name: "bob", Key: key + "x"})); err != nil {
		t.Error(err)
	}
}

// TestKeysAsJSON shows that nothing is lost on the way to JSON and back, as when
// Caddy saves its configuration.
func TestKeysAsJSON(t *testing.T) {
	want := &Keys{
		File: "/etc/vllm-gateway/keys.json",
		Keys: []*Key{
			{Name: "alice", Key: "{env.KEY}", Grant: Grant{Models: []string{"a", "b"}, Class: -3, Admin: true, MaxConcurrent: 4}, Expires: time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)},
			{Name: "bob", Key: hashed("x")},
		},
		TrustAuth: &TrustedAuth{User: "{http.auth.user.id}", Grant: Grant{Models: []string{"a"}}},
	}
	encoded, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := new(Keys)
	if err := json.Unmarshal(encoded, got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v: %s", err, encoded)
	}
	if strings.Contains(string(encoded), "0001-01-01") {
		t.Errorf("a key without an end has one: %s", encoded)
	}
}

// TestLoggedKeys shows that a handler that is logged, as Caddy can be made to do,
// does not show its keys.
func TestLoggedKeys(t *testing.T) {
	keys := []*Key{{Name: "alice", Key: "sk-s3cr3t"}}
	logged, err := zapcore.NewJSONEncoder(zapcore.EncoderConfig{}).EncodeEntry(zapcore.Entry{},
		[]zap.Field{zap.Any("handler", &Keys{Keys: keys, own: ringOf(t, keys...)}), zap.Any("key", keys[0])})
	if err != nil {
		t.Fatal(err)
	}
	if got := logged.String(); strings.Contains(got, "s3cr3t") || !strings.Contains(got, "alice") {
		t.Errorf("the log says %s", got)
	}
}
