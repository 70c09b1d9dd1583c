// This file owns how vLLM is given a GGUF model, and how one is fetched.
//
// It rests on what vLLM's documentation of GGUF and the loader of its plugin
// (vllm-gguf-plugin, which recent versions need; older ones had it built in) say
// they take for --model:
//
//	org/name:Q4_K_M              a quantization of a repository on the hub
//	org/name/folder/file.gguf    a file of one; older versions need the
//	                             configuration by --hf-config-path then
//	/path/file.gguf              a local file; of one in parts the first
//	/path:Q4_K_M                 a quantization in a local folder; plugin only

package vllm

import (
	"context"
	"regexp"
	"strings"
	"unicode"

	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// local says whether a repo is a path and not a name on the hub.
func local(repo string) bool {
	return strings.HasPrefix(repo, "/") || strings.HasPrefix(repo, ".")
}

// quantization is how the names of GGUF files say how weights are packed.
var quantization = regexp.MustCompile(`(?i)^(?:UD-)?(?:I?Q\d+|TQ\d+|BF16|FP?16|FP?32|MXFP4)(?:_[A-Z0-9]+)*$`)

// SplitRepo splits "org/name:Q4_K_M", a GGUF repository with the quantization
// that is meant, into both. The quantization is empty where the repo names
// none; the colon of a path belongs to the path.
func SplitRepo(repo string) (name, quant string) {
	i := strings.LastIndexByte(repo, ':')
	if i <= 0 || local(repo) || !quantization.MatchString(repo[i+1:]) {
		return repo, ""
	}
	return repo[:i], repo[i+1:]
}

// ggufSuffix is the end of the name of every GGUF file.
const ggufSuffix = ".gguf"

// namesFile says whether what a model says of its GGUF file is a name, and not
// a quantization.
func namesFile(file string) bool { return strings.HasSuffix(strings.ToLower(file), ggufSuffix) }

// modelReference is the value of --model.
func modelReference(m server.Model) string {
	switch {
	case m.File == "":
		return m.Repo
	case namesFile(m.File):
		return joined(m.Repo, firstPart(m.File))
	case local(m.Repo):
		// The exact file, where it can be seen from here.
		if c, err := pickLocal(m.Repo, m.File); err == nil {
			return joined(m.Repo, c.Files[0])
		}
	}
	// vLLM knows quantizations in capitals only.
	return m.Repo + ":" + strings.ToUpper(m.File)
}

// joined is a file of a repo; a repo's "./" stays, since it makes the path one.
func joined(repo, file string) string { return strings.TrimRight(repo, "/") + "/" + file }

// ggufPart is the end of the name of a part of a split file.
var ggufPart = regexp.MustCompile(`-\d{5}(-of-\d{5}\.gguf)$`)

// firstPart is the part by which a split file is loaded.
func firstPart(file string) string { return ggufPart.ReplaceAllString(file, "-00001$1") }

// fetchGGUF makes the arguments by which the Hugging Face client brings one GGUF
// model, all its parts, and what describes it. Patterns are those of Python's
// fnmatch, in which "*" reaches over slashes; older clients heed the last
// pattern only, so it is the one for the weights.
func fetchGGUF(file string) []string {
	args := []string{"--include", "*.json", "--include", "tokenizer*"}
	if namesFile(file) {
		return append(args, "--include", literal(ggufPart.ReplaceAllString(file, "-\x00$1")))
	}
	quant := anyCase(file)
	args = append(args,
		"--include", quant+"*.gguf", // the name begins with it, or is in a folder that does
		"--include", "*[-._/]"+quant+"*.gguf")
	// A longer name for another packing goes on with "_", as Q4_K_M to Q4_K.
	args = append(args, "--exclude", "*mmproj*", "--exclude", "*imatrix*", "--exclude", "*"+quant+"_*")
	if !strings.HasPrefix(strings.ToUpper(file), "UD-") {
		args = append(args, "--exclude", "*"+anyCase("UD-")+quant+"*")
	}
	return args
}

// literal is a pattern for a name; a zero byte stands for the number of a part.
func literal(name string) string {
	return strings.NewReplacer("[", "[[]", "*", "[*]", "?", "[?]", "\x00", "?????").Replace(name)
}

// anyCase is a pattern for a word in capitals or not: repositories have both.
func anyCase(word string) string {
	var b strings.Builder
	for _, r := range word {
		upper, lower := unicode.ToUpper(r), unicode.ToLower(r)
		if upper == lower {
			b.WriteString(literal(string(r)))
			continue
		}
		b.WriteString("[" + string(upper) + string(lower) + "]")
	}
	return b.String()
}

// pickLocal finds the GGUF model that is meant in a folder.
func pickLocal(folder, file string) (footprint.Candidate, error) {
	files, err := footprint.NewFolder(folder, "").Files(context.Background())
	if err != nil {
		return footprint.Candidate{}, err
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.Name
	}
	return footprint.Pick(names, file)
}
