package lines

import (
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

func collect(s string, oneByOne bool) []string {
	var got []string
	line := func(l string) { got = append(got, l) }
	if oneByOne {
		Read(iotest.OneByteReader(strings.NewReader(s)), line)
	} else {
		Read(strings.NewReader(s), line)
	}
	return got
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", MaxLength)
	for _, c := range []struct{ name, in, want string }{
		{"plain", "a\nb\n", "a|b"},
		{"no line end", "a\nb", "a|b"},
		{"empty lines", "\n\na\n\n", "a"},
		{"Windows", "a\r\nb\r\n", "a|b"},
		{"bar", "\r 0%\r 50%\r 99%\r100%\nnext\n", " 0%|100%|next"},
		{"bar on a line of its own", "before\n0%\r50%\r100%\nafter", "before|0%|100%|after"},
		{"two bars", "0%\r100%\n0%\r100%\n", "0%|100%|0%|100%"},
		{"bar cut off", "0%\r50%\r70%\r", "0%|70%"},
		{"bar then Windows end", "0%\r50%\r\n", "0%|50%"},
		{"returns only", "\r\r\r\n", ""},
		{"long", long + "tail\nnext\n", long + "|next"},
		{"not UTF-8", "a\xffb\n", "a\uFFFDb"},
	} {
		for _, oneByOne := range []bool{false, true} {
			if got := strings.Join(collect(c.in, oneByOne), "|"); got != c.want {
				t.Errorf("%s (one byte at a time: %v): got %q, want %q", c.name, oneByOne, got, c.want)
			}
		}
	}
}

// A bar's states go to whoever wants them, and never as lines.
func TestStates(t *testing.T) {
	var got []string
	s := Splitter{
		Line:  func(l string) { got = append(got, "line "+l) },
		State: func(l string) { got = append(got, "state "+l) },
	}
	_, _ = s.Write([]byte("0%\r50%\r\r99%\r100%\nnext"))
	s.Flush()
	if want := "line 0%|state 50%|state 99%|line 100%|line next"; strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzLines(f *testing.F) {
	for _, s := range []string{"", "a\nb", "\r0%\r1%\r\n", "\xff\n\r\r", "a\r"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		whole, pieces := collect(s, false), collect(s, true)
		if strings.Join(whole, "\n") != strings.Join(pieces, "\n") {
			t.Errorf("%q depends on how it is read: %q and %q", s, whole, pieces)
		}
		for _, line := range whole {
			if line == "" || len(line) > 3*MaxLength || !utf8.ValidString(line) || strings.ContainsAny(line, "\r\n") {
				t.Errorf("%q makes the line %q", s, line)
			}
		}
	})
}
