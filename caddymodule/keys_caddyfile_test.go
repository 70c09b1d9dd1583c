package caddymodule

import (
	"strings"
	"testing"
)

// keysSite is a site whose keys begin in line 3.
func keysSite(lines string) string {
	return ":80 {\n\tvllm_keys {\n" + lines + "\n\t}\n}\n"
}

func TestKeysInCaddyfile(t *testing.T) {
	got, err := handlersOf(t, `vllm_keys {
		key alice {env.KEY_ALICE}
		key bob sha256:`+strings.Repeat("0f", 32)+` {
			models a b
			models c
			class -2
			admin
			max_concurrent 4
			expires 2027-01-31T12:00:00+01:00
		}
		key carol {file./run/secrets/carol} {
			admin off
		}
		file {env.HOME}/keys.json
		trust_auth {header.Remote-User} {
			models a
			class 1
			max_concurrent 2
		}
	}`)
	want := `{"file":"{env.HOME}/keys.json","handler":"vllm_keys","keys":[` +
		`{"key":"{env.KEY_ALICE}","name":"alice"},` +
		`{"admin":true,"class":-2,"expires":"2027-01-31T12:00:00+01:00","key":"sha256:` + strings.Repeat("0f", 32) + `","max_concurrent":4,"models":["a","b","c"],"name":"bob"},` +
		`{"key":"{file./run/secrets/carol}","name":"carol"}],` +
		`"trust_auth":{"class":1,"max_concurrent":2,"models":["a"],"user":"{http.request.header.Remote-User}"}}`
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("%v: got\n%s\nwant\n%s", err, got, want)
	}
	for _, block := range []string{"vllm_keys {\ntrust_auth\n}", "vllm_gateway {\nkeys {\ntrust_auth\n}\n}"} {
		got, err := handlersOf(t, block)
		if err != nil || !strings.Contains(strings.Join(got, ""), `{"handler":"vllm_keys","trust_auth":{}}`) {
			t.Errorf("%q gives %q and %v", block, got, err)
		}
	}
}

func TestMistakesOfKeysInCaddyfile(t *testing.T) {
	for _, tt := range []struct {
		name, lines, want string
		line              int // of the keys, from 1; 0: of vllm_keys itself
	}{
		{"nothing", "", "there is no API key, so nobody could come in", 0},
		{"unknown word", "kye alice {env.X}", "'kye' is no option of keys", 1},
		{"key where an option belongs", "sk-s3cr3t", "a word that is not shown here, as it may be a key, is no option of keys", 1},
		{"key alone", "key sk-s3cr3t", "a key has a name and the key itself", 1},
		{"too much", "key alice sk-s3cr3t s3cr3t", "a key has a name and the key itself", 1},
		{"mixed up", "key sk-s3cr3t alice", "its name looks like a key; the name comes first", 1},
		{"empty", "trust_auth\nkey alice \"\"", "key alice is empty", 2},
		{"twice", "key alice {env.X}\nkey alice {env.Y}", "key alice is already defined", 2},
		{"key in the block", "key alice {env.X} {\n sk-s3cr3t\n}", "as it may be a key, is no option of a key", 2},
		{"unknown option", "key alice {env.X} {\n modles a\n}", "'modles' is no option of a key", 2},
		{"option twice", "key alice {env.X} {\n class 1\n class 2\n}", "class is already specified, in line 4", 3},
		{"class", "key alice {env.X} {\n class high\n}", "class: 'high' is not a whole number", 2},
		{"class out of range", "key alice {env.X}\nkey bob {env.Y} {\n class 1000\n}\nfile x", "key bob: class must be from -100 to 100", 3},
		{"flag", "key alice {env.X} {\n admin yes\n}", "admin is 'yes', but must be 'on' or 'off'", 2},
		{"limit", "key alice {env.X} {\n max_concurrent 0\n}", "max_concurrent must be at least 1", 2},
		{"no models", "key alice {env.X} {\n models\n}", "wrong argument count", 2},
		{"expiry", "key alice {env.X} {\n expires tomorrow\n}", "expires: 'tomorrow' is not a time such as 2027-01-31T00:00:00Z", 2},
		{"file twice", "file a\nfile b", "file is already specified, in line 3", 2},
		{"trust in anybody", "trust_auth alice", "trust_auth: 'alice' is no placeholder, so it would let everybody in", 1},
		{"expiry of trust", "trust_auth {\n expires 2027-01-31T00:00:00Z\n}", "'expires' is no option of trust_auth", 2},
		{"class of trust", "trust_auth {\n class -101\n}", "trust_auth: class must be from -100 to 100", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantMistake(t, keysSite(tt.lines), tt.want, 2+tt.line)
			if _, _, err := adapt(keysSite(tt.lines)); strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("the error shows a part of a key: %v", err)
			}
		})
	}
	t.Run("key in the line of the directive", func(t *testing.T) {
		_, _, err := adapt(":80 {\n\tvllm_gateway {\n\t\tkeys s3cr3t\n\t}\n}\n")
		if err == nil || strings.Contains(err.Error(), "s3cr3t") || !strings.Contains(err.Error(), "in a block") || !strings.HasSuffix(err.Error(), "Caddyfile:3") {
			t.Errorf("got error %v", err)
		}
	})
}
