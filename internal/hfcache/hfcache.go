// Package hfcache reads a Hugging Face cache folder: which snapshot of a
// repository is there, whether it is complete, and what its config.json says.
// It never writes and never asks the network.
//
// The layout is that of huggingface_hub (its guide "Manage huggingface_hub
// cache-system"):
//
//	FOLDER/hub/models--ORG--NAME/refs/REVISION       the snapshot's hash
//	FOLDER/hub/models--ORG--NAME/snapshots/HASH/…    links into blobs
//	FOLDER/hub/models--ORG--NAME/blobs/HASH          files
//	FOLDER/hub/models--ORG--NAME/blobs/HASH.incomplete   being downloaded
package hfcache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// maxJSON bounds the JSON files that are read, in bytes. The index of the
// largest models has a few megabytes.
const maxJSON = 32 << 20

// ErrMissing says that no snapshot of the repository is in the cache.
var ErrMissing = errors.New("not in the cache")

// Snapshot is one version of a repository in the cache.
type Snapshot struct {
	Folder string // of its files

	blobs string // of the repository
}

// Find returns the snapshot of a repository that its branch "main" names. A
// repo that is itself a folder is its own snapshot. The error is [ErrMissing]
// when there is none.
func Find(folder, repo string) (Snapshot, error) { return FindRevision(folder, repo, "main") }

// hash is the name of a commit, whose snapshot needs no reference.
var hash = regexp.MustCompile(`^[0-9a-f]{40}$`)

// FindRevision is Find for another branch, a tag or the hash of a commit. A
// folder has no revisions.
func FindRevision(folder, repo, revision string) (Snapshot, error) {
	if filepath.IsAbs(repo) || strings.HasPrefix(repo, ".") {
		if _, err := os.Stat(filepath.Join(repo, "config.json")); err != nil {
			return Snapshot{}, fmt.Errorf("model folder %s: %w", repo, ErrMissing)
		}
		return Snapshot{Folder: repo}, nil
	}
	if !valid(repo) {
		return Snapshot{}, fmt.Errorf("repository %q: not a name on the Hugging Face hub", repo)
	}
	root := filepath.Join(folder, "hub", "models--"+strings.ReplaceAll(repo, "/", "--"))
	name := revision
	if !hash.MatchString(revision) {
		if !filepath.IsLocal(revision) {
			return Snapshot{}, fmt.Errorf("repository %s: revision %q is not a name on the Hugging Face hub", repo, revision)
		}
		text, err := read(filepath.Join(root, "refs", filepath.FromSlash(revision)), 128)
		if errors.Is(err, fs.ErrNotExist) {
			return Snapshot{}, fmt.Errorf("repository %s: %w", repo, ErrMissing)
		}
		if err != nil {
			return Snapshot{}, fmt.Errorf("repository %s: %w", repo, err)
		}
		if name = strings.TrimSpace(string(text)); name == "" || strings.ContainsAny(name, `/\.`) {
			return Snapshot{}, fmt.Errorf("repository %s: its branch names no snapshot", repo)
		}
	}
	s := Snapshot{Folder: filepath.Join(root, "snapshots", name), blobs: filepath.Join(root, "blobs")}
	if _, err := os.Stat(s.Folder); err != nil {
		return Snapshot{}, fmt.Errorf("repository %s: %w", repo, ErrMissing)
	}
	return s, nil
}

// valid says whether a name is one that the hub could have: "org/name" or
// "name", of letters, digits, '-', '_' and '.'.
func valid(repo string) bool {
	parts := strings.Split(repo, "/")
	if len(parts) > 2 {
		return false
	}
	for _, p := range parts {
		if p == "" || p == "." || p == ".." || strings.Trim(p, "-_.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
			return false
		}
	}
	return true
}

// Described says whether all is there but, maybe, weights: config.json and a
// tokenizer, and no download is unfinished.
func (s Snapshot) Described() bool {
	if !s.has("config.json") {
		return false
	}
	if !s.has("tokenizer.json") && !s.has("tokenizer.model") && !s.has("tokenizer_config.json") && !s.has("vocab.json") && !s.has("tekken.json") {
		return false
	}
	if s.blobs == "" {
		return true
	}
	unfinished, err := filepath.Glob(filepath.Join(s.blobs, "*.incomplete"))
	return err == nil && len(unfinished) == 0
}

// Complete says whether a server can load the snapshot without the network: it
// is described, and each file of weights that the index names is there, or a
// single one.
func (s Snapshot) Complete() bool {
	if !s.Described() {
		return false
	}
	b, err := read(filepath.Join(s.Folder, "model.safetensors.index.json"), maxJSON)
	if errors.Is(err, fs.ErrNotExist) {
		return s.has("model.safetensors")
	}
	if err != nil {
		return false
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if json.Unmarshal(b, &index) != nil || len(index.WeightMap) == 0 {
		return false
	}
	for _, file := range index.WeightMap {
		if !filepath.IsLocal(file) || !s.has(file) {
			return false
		}
	}
	return true
}

// has says whether a file is there, and what it links to.
func (s Snapshot) has(name string) bool {
	info, err := os.Stat(filepath.Join(s.Folder, name))
	return err == nil && info.Mode().IsRegular() && info.Size() > 0
}

// read reads a file of at most so many bytes.
func read(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", filepath.Base(name), most)
	}
	return b, err
}
