package footprint

// This file picks the GGUF file that is meant: the exact one, or an error that
// lists what there is.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/vllm-gateway/vllm-gateway/internal/hfcache"
)

// Candidate is a GGUF model in a repository: one file, or the parts of one that
// was split, in their order.
type Candidate struct {
	Quant string // "Q4_K_M", as the file's name or its folder has it; empty: it has none
	Files []string
}

var (
	// part is the end of the name of a split file.
	part = regexp.MustCompile(`^(.+)-(\d{5})-of-(\d{5})$`)
	// quant is the end of a name that says how the weights are packed.
	quant = regexp.MustCompile(`(?i)(?:^|[-._])((?:UD-)?(?:I?Q\d+|TQ\d+|BF16|FP?16|FP?32|MXFP4)(?:_[A-Z0-9]+)*)$`)
)

// Candidates finds the GGUF models among files, in the order of their names.
// Files that belong to others, such as projectors of pictures and importance
// matrices, are left out. A model that lacks parts is an error.
func Candidates(names []string) ([]Candidate, error) {
	parts := map[string][]string{}
	counts := map[string]int{}
	var order []string
	for _, name := range slices.Sorted(slices.Values(names)) {
		stem, ok := strings.CutSuffix(name, ".gguf")
		base := strings.ToLower(path.Base(stem))
		if !ok || strings.HasPrefix(base, "mmproj") || strings.Contains(base, "imatrix") {
			continue
		}
		count := 1
		if m := part.FindStringSubmatch(stem); m != nil {
			stem = m[1]
			count, _ = strconv.Atoi(m[3])
			if n, _ := strconv.Atoi(m[2]); n != len(parts[stem])+1 || counts[stem] != 0 && counts[stem] != count {
				return nil, fmt.Errorf("%s is there and parts before it are not: download them all", name)
			}
		} else if counts[stem] != 0 {
			return nil, fmt.Errorf("%s is there whole and in parts", name)
		}
		if counts[stem] == 0 {
			order = append(order, stem)
		}
		parts[stem], counts[stem] = append(parts[stem], name), count
	}
	var all []Candidate
	for _, stem := range order {
		if len(parts[stem]) != counts[stem] {
			return nil, fmt.Errorf("%s has %d parts and %d are there: download them all", stem, counts[stem], len(parts[stem]))
		}
		all = append(all, Candidate{Quant: quantOf(stem), Files: parts[stem]})
	}
	return all, nil
}

// quantOf reads how weights are packed from a name, or from its folder's.
func quantOf(stem string) string {
	for _, name := range []string{path.Base(stem), path.Base(path.Dir(stem))} {
		if m := quant.FindStringSubmatch(name); m != nil {
			return strings.ToUpper(m[1])
		}
	}
	return ""
}

// Pick is the one candidate that is meant: by a file's name, of any of its
// parts, or by how its weights are packed, whole and not as a part of a longer
// word: Q4_K is not Q4_K_M. With neither, it is the only one there is.
func Pick(names []string, want string) (Candidate, error) {
	all, err := Candidates(names)
	if err != nil {
		return Candidate{}, err
	}
	var fit []Candidate
	for _, c := range all {
		named := slices.Contains(c.Files, want)
		if want == "" || named || c.Quant != "" && strings.EqualFold(c.Quant, want) {
			fit = append(fit, c)
		}
	}
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(all) == 0:
		return Candidate{}, errors.New("there are no GGUF files")
	case len(fit) == 0:
		return Candidate{}, fmt.Errorf("no GGUF file is %q; there are %s", want, listed(all))
	case want == "":
		return Candidate{}, fmt.Errorf("there are several GGUF files, name one of %s", listed(fit))
	}
	return Candidate{}, fmt.Errorf("several GGUF files are %q, name one of %s", want, listed(fit))
}

// listed is candidates in words.
func listed(all []Candidate) string {
	const most = 40 // a list longer than that helps nobody
	var words []string
	for _, c := range all[:min(len(all), most)] {
		word := c.Files[0]
		if c.Quant != "" {
			word = c.Quant + " (" + word + ")"
		}
		words = append(words, word)
	}
	if len(all) > most {
		words = append(words, fmt.Sprintf("%d more", len(all)-most))
	}
	return strings.Join(words, ", ")
}

// LoadGGUF reads the headers of the GGUF model that is meant; see [Pick]. The
// configuration is that of the header, or where its architecture is not known
// by itself the config.json beside it. The error wraps [ErrCannot]; what was read
// before it comes with it.
func LoadGGUF(ctx context.Context, src Source, want string) (Model, error) {
	m, err := loadGGUF(ctx, src, want)
	if err != nil && !errors.Is(err, ErrCannot) {
		err = cannot("%w", err)
	}
	return m, err
}

func loadGGUF(ctx context.Context, src Source, want string) (Model, error) {
	m := Model{Revision: src.Revision()}
	files, err := src.Files(ctx)
	if err != nil {
		return m, err
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.Name
	}
	picked, err := Pick(names, want)
	if err != nil {
		return m, err
	}
	m.Files = picked.Files
	var first gguf
	var tensors []Tensor
	for i, name := range picked.Files {
		n, err := size(files, name)
		if err != nil {
			return m, err
		}
		h, err := parseGGUF(&sourceReader{ctx: ctx, src: src, name: name, size: n}, n)
		if err != nil {
			return m, fmt.Errorf("%s: %w", name, err)
		}
		if count, ok := h.facts["split.count"].(int64); ok && count > 0 && int(count) != len(picked.Files) {
			return m, fmt.Errorf("%s says that it has %d parts, and %d are there", name, count, len(picked.Files))
		}
		if i == 0 {
			first, m.Native = h, h.length()
		}
		tensors = append(tensors, h.tensors...)
	}
	if count, ok := first.facts["split.tensors.count"].(int64); ok && int(count) != len(tensors) {
		return m, fmt.Errorf("%s says that it has %d tensors, and %d are there", picked.Files[0], count, len(tensors))
	}
	if m.Weights, err = NewWeights(tensors); err != nil {
		return m, err
	}
	m.Config, err = first.config()
	if err != nil && has(files, "config.json") {
		var text []byte
		if text, err = readWhole(ctx, src, files, "config.json", maxConfig); err == nil {
			m.Native = cmp.Or(hfcache.NativeLength(text), m.Native)
			m.Config, err = parseConfig(text)
		}
	}
	return m, err
}
