package footprint

// This file says where files come from, and reads a model's from there.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vllm-gateway/vllm-gateway/internal/hfcache"
)

// FileInfo is a file that a source has.
type FileInfo struct {
	Name string // within the repository, with slashes
	Size int64  // bytes
}

// Source is one version of a model's repository.
type Source interface {
	// Revision names the version; empty where there is none, as in a folder.
	Revision() string
	// Files lists the files, in the order of their names.
	Files(context.Context) ([]FileInfo, error)
	// Read reads so many bytes from an offset, or fails.
	Read(ctx context.Context, name string, offset, length int64) ([]byte, error)
}

// Folder is a source on disk: a snapshot of a Hugging Face cache, or any folder
// with a model.
type Folder struct {
	path, revision string
}

// NewFolder makes a source of a folder. The revision may be empty.
func NewFolder(path, revision string) Folder { return Folder{path: path, revision: revision} }

// FromCache finds a repository in a Hugging Face cache folder, or a model's own
// folder; see [hfcache.Find]. What is not there wraps [hfcache.ErrMissing].
func FromCache(cache, repo string) (Source, error) {
	s, err := hfcache.Find(cache, repo)
	if err != nil {
		return nil, err
	}
	if s.Folder == repo {
		return NewFolder(repo, ""), nil
	}
	return NewFolder(s.Folder, filepath.Base(s.Folder)), nil // snapshots are named by their hashes
}

// Revision is what the folder was said to be.
func (f Folder) Revision() string { return f.revision }

// Files lists the folder, one level of folders below it included, where
// repositories keep the parts of large files. What links to nothing, as files
// of a cache do while they are fetched, is left out.
func (f Folder) Files(ctx context.Context) ([]FileInfo, error) {
	var files []FileInfo
	list := func(below string) ([]os.DirEntry, error) { return os.ReadDir(filepath.Join(f.path, below)) }
	add := func(name string) {
		if info, err := os.Stat(filepath.Join(f.path, filepath.FromSlash(name))); err == nil && info.Mode().IsRegular() {
			files = append(files, FileInfo{Name: name, Size: info.Size()})
		}
	}
	top, err := list(".")
	if err != nil {
		return nil, fmt.Errorf("the model's folder cannot be read: %w", bare(err))
	}
	for _, e := range top {
		if !e.IsDir() {
			add(e.Name())
			continue
		}
		below, err := list(e.Name())
		if err != nil {
			continue // a folder that is not ours to read holds no weights for us
		}
		for _, inner := range below {
			add(e.Name() + "/" + inner.Name())
		}
	}
	slices.SortFunc(files, func(a, b FileInfo) int { return strings.Compare(a.Name, b.Name) })
	return files, ctx.Err()
}

// Read reads from a file of the folder.
func (f Folder) Read(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !plainName(name) {
		return nil, fmt.Errorf("%q is no name of a file in a model's folder", name)
	}
	file, err := os.Open(filepath.Join(f.path, filepath.FromSlash(name)))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", name, bare(err))
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || offset < 0 || length < 0 || offset > info.Size()-length {
		return nil, fmt.Errorf("%s is shorter than it should be: download it again", name)
	}
	b := make([]byte, length) // no more than the file has
	if _, err := file.ReadAt(b, offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s cannot be read: %w", name, bare(err))
	}
	return b, nil
}

// bare is an error without the path of a file.
func bare(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err
	}
	return err
}

// Model is what a source tells of a model.
type Model struct {
	Config   Config
	Weights  Weights
	Revision string
	Files    []string // of the weights
	// Native is the longest context that the model was made for, in tokens;
	// 0: its files do not say so plainly.
	Native int
}

// firstRead is how much of a safetensors file is read at once: most headers
// are shorter, and are had with one request.
const firstRead = 128 << 10

// readers is how many files are read at the same time.
const readers = 8

// Load reads a model's config.json and the headers of its weights. The error
// wraps [ErrCannot]; what was read before it comes with it.
func Load(ctx context.Context, src Source) (Model, error) {
	m, err := load(ctx, src)
	if err != nil && !errors.Is(err, ErrCannot) {
		err = cannot("%w", err)
	}
	return m, err
}

func load(ctx context.Context, src Source) (Model, error) {
	m := Model{Revision: src.Revision()}
	files, err := src.Files(ctx)
	if err != nil {
		return m, err
	}
	text, err := readWhole(ctx, src, files, "config.json", maxConfig)
	if err != nil {
		return m, err
	}
	m.Native = hfcache.NativeLength(text)
	if m.Config, err = ParseConfig(text); err != nil {
		return m, err
	}
	var index map[string]string
	if has(files, "model.safetensors.index.json") {
		text, err := readWhole(ctx, src, files, "model.safetensors.index.json", maxIndex)
		if err != nil {
			return m, err
		}
		if index, err = parseIndex(text); err != nil {
			return m, err
		}
	}
	if m.Files, err = weightFiles(files, index); err != nil {
		return m, err
	}
	m.Weights, err = readHeaders(ctx, src, files, m.Files, index)
	return m, err
}

func has(files []FileInfo, name string) bool {
	return slices.ContainsFunc(files, func(f FileInfo) bool { return f.Name == name })
}

func size(files []FileInfo, name string) (int64, error) {
	for _, f := range files {
		if f.Name == name {
			return f.Size, nil
		}
	}
	return 0, fmt.Errorf("there is no %s", name)
}

func readWhole(ctx context.Context, src Source, files []FileInfo, name string, most int64) ([]byte, error) {
	n, err := size(files, name)
	if err != nil {
		return nil, err
	}
	if n > most {
		return nil, fmt.Errorf("%s has more than %d bytes", name, most)
	}
	return src.Read(ctx, name, 0, n)
}

// weightFiles are the files that vLLM loads: those of the index, or all of
// safetensors at the top but for another format's copies of them
// (filter_duplicate_safetensors_files in its
// vllm/model_executor/model_loader/weight_utils.py).
func weightFiles(files []FileInfo, index map[string]string) ([]string, error) {
	var names []string
	if index != nil {
		for _, file := range index {
			names = append(names, file)
		}
		slices.Sort(names)
		names = slices.Compact(names)
		for _, name := range names {
			if !has(files, name) {
				return nil, fmt.Errorf("there is no %s, which the index names: the weights are not downloaded whole", name)
			}
		}
		return names, nil
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name, ".safetensors") && !strings.Contains(f.Name, "/") &&
			!strings.HasPrefix(f.Name, "consolidated") && !strings.HasPrefix(f.Name, "adapter_") {
			names = append(names, f.Name)
		}
	}
	if len(names) == 0 {
		return nil, errors.New("there are no safetensors files")
	}
	return names, nil
}

// readHeaders reads the headers of files at the same time, and puts them
// together in the files' order.
func readHeaders(ctx context.Context, src Source, files []FileInfo, names []string, index map[string]string) (Weights, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := make([][]Tensor, len(names))
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	turn := make(chan struct{}, readers)
	for i, name := range names {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			n, err := size(files, name)
			if err == nil {
				found[i], err = readHeader(ctx, src, name, n)
			}
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w", name, err)
				cancel() // the others are of no use any more
			}
		})
	}
	wg.Wait()
	if err := firstCause(errs); err != nil {
		return Weights{}, err
	}
	places := make(map[string]string, len(index))
	for i, tensors := range found {
		for _, t := range tensors {
			places[t.Name] = names[i]
		}
	}
	for _, tensor := range sortedKeys(index) {
		if places[tensor] == "" {
			return Weights{}, fmt.Errorf("the index names the tensor %q, which is in no file", tensor)
		}
	}
	return NewWeights(slices.Concat(found...))
}

// firstCause is the first error that is not about another's having failed.
func firstCause(errs []error) error {
	var first error
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// readHeader reads the header of one safetensors file.
func readHeader(ctx context.Context, src Source, name string, fileSize int64) ([]Tensor, error) {
	first, err := src.Read(ctx, name, 0, min(firstRead, fileSize))
	if err != nil {
		return nil, err
	}
	n, err := headerLength(first, fileSize)
	if err != nil {
		return nil, err
	}
	header := first[safetensorsPrefix:]
	if rest := n - int64(len(header)); rest > 0 {
		more, err := src.Read(ctx, name, int64(len(first)), rest)
		if err != nil {
			return nil, err
		}
		header = append(header, more...)
	}
	return parseHeader(header[:n], fileSize-safetensorsPrefix-n)
}
