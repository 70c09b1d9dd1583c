package house

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fence is a block of code in a page.
type fence struct {
	lang, text string
	mark       string // what the comment on the line before says
}

func fences(page string) []fence {
	var all []fence
	var f *fence
	before := ""
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		lang, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && f == nil:
			mark, _ := strings.CutPrefix(before, "<!-- ")
			mark, isMark := strings.CutSuffix(mark, " -->")
			if !isMark {
				mark = ""
			}
			f = &fence{lang: lang, mark: mark}
		case isFence:
			all = append(all, *f)
			f = nil
		case f != nil:
			f.text += line + "\n"
		}
		before = line
	}
	return all
}

// What the tests look for in the Caddyfile and in the pages.
var (
	modelLine = regexp.MustCompile(`(?m)^\s*model (\S+) \{$`)
	aliasLine = regexp.MustCompile(`(?m)^\s*alias (.+)$`)
	siteLine  = regexp.MustCompile(`(?m)^(https?://\S+) \{$`)
	askedName = regexp.MustCompile(`(?:"model":|model=|Model:)\s*"([^"]+)"`)
	url       = regexp.MustCompile(`https?://localhost:\d+`)
	link      = regexp.MustCompile(`\]\(([^)#]+)`)
)

// matches are the first groups of all matches.
func matches(re *regexp.Regexp, text string) []string {
	var all []string
	for _, m := range re.FindAllStringSubmatch(text, -1) {
		all = append(all, m[len(m)-1])
	}
	return all
}

// TestReadmeCommands holds the two commands that a newcomer types against what
// they must be for the rest of the README to be true.
func TestReadmeCommands(t *testing.T) {
	all := fences(text(t, "README.md"))
	i := slices.IndexFunc(all, func(f fence) bool { return f.lang == "sh" })
	if i < 0 {
		t.Fatal("README.md shows no command")
	}
	if got, want := all[i].text, "go run ./cmd/caddy run --config Caddyfile.demo\n"; got != want {
		t.Errorf("the README's first command is %q, want %q", got, want)
	}
	// .ci/run takes the command from here.
	var marked []string
	for _, f := range all {
		if f.mark == "all tests" {
			marked = append(marked, f.text)
		}
	}
	if !slices.Equal(marked, []string{"go test ./...\n"}) {
		t.Errorf("the README's commands for all tests are %q, want one: go test ./...", marked)
	}
	if !strings.Contains(text(t, ".ci/run"), "<!-- all tests -->") {
		t.Error(".ci/run does not take its test command from the README")
	}
}

// TestReadmeAndDemo holds every model and address in the README's examples
// against the demonstration that they are for, or the README's own Caddyfile.
func TestReadmeAndDemo(t *testing.T) {
	readme, demo := text(t, "README.md"), text(t, "Caddyfile.demo")

	models := matches(modelLine, demo)
	if len(models) != 4 {
		t.Fatalf("Caddyfile.demo has the models %q, want four", models)
	}
	names := slices.Clone(models)
	for _, aliases := range matches(aliasLine, demo) {
		names = append(names, strings.Fields(aliases)...)
	}
	for _, f := range fences(readme) {
		if f.lang == "caddyfile" { // a Caddyfile of the README's own brings its models along
			names = append(names, matches(modelLine, f.text)...)
		}
	}
	asked := map[string]bool{}
	curled := map[string]bool{}
	for _, f := range fences(readme) {
		for _, name := range matches(askedName, f.text) {
			asked[name] = true
			curled[name] = curled[name] || f.lang == "sh"
		}
	}
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		if !slices.Contains(names, name) {
			t.Errorf("README.md asks for the model %s, which Caddyfile.demo does not have", name)
		}
	}
	for _, model := range models {
		if !curled[model] {
			t.Errorf("README.md has no curl for the model %s of Caddyfile.demo", model)
		}
	}

	sites := matches(siteLine, demo)
	for _, u := range url.FindAllString(readme, -1) {
		if !slices.Contains(sites, u) {
			t.Errorf("README.md points to %s, but Caddyfile.demo serves %q", u, sites)
		}
	}
	for _, site := range sites {
		if !strings.Contains(readme, site) {
			t.Errorf("README.md does not mention %s of Caddyfile.demo", site)
		}
	}
}

// TestLinks follows the links between the repository's pages.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md"))
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range matches(link, string(b)) {
			if strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), target)); err != nil {
				t.Errorf("%s links to %s: %v", page, target, err)
			}
		}
	}
}

func TestFences(t *testing.T) {
	got := fences("a\n<!-- mark -->\n```sh\ngo test ./...\n```\nb\n```\nx\n  y\n```\n")
	want := []fence{{"sh", "go test ./...\n", "mark"}, {"", "x\n  y\n", ""}}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
