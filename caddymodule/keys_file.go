// This file owns the file of API keys: what it looks like, and how a running
// configuration learns that it was changed.

package caddymodule

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	// keyFileEvery is how often the file is read.
	keyFileEvery = 2 * time.Second
	// maxKeyFile is how large the file may be, in bytes.
	maxKeyFile = 4 << 20
)

// keyFile is a file of keys.
type keyFile struct {
	path string
	sum  [sha256.Size]byte // of what was read last, right or wrong
	told string            // the trouble that the log was told of last
}

// read reads the keys. It says whether the file is another than at the last reading;
// if it is not, there are no keys. No error holds anything that stands in the file
// but names.
func (f *keyFile) read() (ring keyring, changed bool, err error) {
	content, err := readKeyFile(f.path)
	if err != nil {
		f.sum = [sha256.Size]byte{} // mended, it may be what it was before
		return nil, true, err
	}
	if sum := sha256.Sum256(content); sum != f.sum {
		f.sum = sum
		ring, err = parseKeys(content)
		return ring, true, err
	}
	return nil, false, nil
}

func readKeyFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxKeyFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxKeyFile)
	}
	return content, nil
}

// parseKeys reads the content of a file of keys.
func parseKeys(content []byte) (keyring, error) {
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	var file struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := decodeStrictly(content, &file); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			line := 1 + bytes.Count(content[:min(int(syntax.Offset), len(content))], []byte("\n"))
			return nil, fmt.Errorf("line %d: this is not valid JSON", line)
		}
		return nil, errors.New(`it must be one JSON object with the list "keys", and nothing else`)
	}
	if file.Keys == nil {
		return nil, errors.New(`it is without the list "keys"; an empty one lets nobody in`)
	}
	keys := make([]*Key, len(file.Keys))
	for i, raw := range file.Keys {
		keys[i] = new(Key)
		if err := decodeStrictly(raw, keys[i]); err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, keyFault(err))
		}
	}
	if err := checkKeys(keys); err != nil {
		return nil, err
	}
	return storedKeys(keys, func(k *Key) (string, error) { return strings.TrimSpace(k.Key), nil })
}

// decodeStrictly reads one JSON value, which must have no member that v has not.
func decodeStrictly(content []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows")
	}
	return nil
}

// keyFault says what is wrong with a key in JSON, without quoting it: in the wrong
// place may stand the key.
func keyFault(err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		kind := map[reflect.Kind]string{
			reflect.Int: "a whole number", reflect.Bool: "true or false", reflect.Slice: "a list", reflect.String: "a text",
		}[wrong.Type.Kind()]
		if wrong.Field == "" || kind == "" {
			return errors.New("it must be an object")
		}
		return fmt.Errorf("%s must be %s", strings.TrimPrefix(wrong.Field, "Grant."), kind)
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("%s no member of a key", isWord(strings.Trim(name, `"`)))
	}
	return errors.New("expires must be a time such as \"2027-01-31T00:00:00Z\"")
}

// isWord begins the sentence that a word has no place where it stands. It says the
// word only if it looks like an option's, and not like a key.
func isWord(word string) string {
	const longest = 20
	other := func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' }
	if word == "" || len(word) > longest || strings.ContainsFunc(word, other) {
		return "a word that is not shown here, as it may be a key, is"
	}
	return "'" + word + "' is"
}

// watch reads the file again and again until done is closed. use gets the keys of
// each new version that is right; its error makes the version a wrong one. What is
// wrong is told once, and the keys stay as they were.
func (f *keyFile) watch(done <-chan struct{}, log *zap.Logger, use func(keyring) error) {
	tick := time.NewTicker(keyFileEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			f.look(log, use)
		}
	}
}

// look reads the file once.
func (f *keyFile) look(log *zap.Logger, use func(keyring) error) {
	ring, changed, err := f.read()
	if !changed {
		return
	}
	if err == nil {
		err = use(ring)
	}
	switch {
	case err == nil:
		f.told = ""
		log.Info("the file of API keys was read again", zap.String("file", f.path), zap.Int("keys", len(ring)))
	case err.Error() != f.told:
		f.told = err.Error()
		log.Error("the file of API keys cannot be used; the keys stay as they were", zap.String("file", f.path), zap.Error(err))
	}
}
