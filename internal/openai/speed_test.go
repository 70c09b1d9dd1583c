package openai

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// megabyte repeats what gen writes until the body has a megabyte.
func megabyte(head, tail string, gen func(b *bytes.Buffer, i int)) []byte {
	var b bytes.Buffer
	b.WriteString(head)
	for i := 0; b.Len() < 1<<20; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		gen(&b, i)
	}
	b.WriteString(tail)
	return b.Bytes()
}

// speedBodies are the bodies of the benchmarks, about 1 MB each unless named.
func speedBodies() []struct {
	name string
	body []byte
} {
	english := strings.Repeat("The quick brown fox jumps over the lazy dog, and then it sleeps. ", 60)
	prose := strings.Repeat(`She said \"no\", and left.\nThen there was nothing more to be said about it, or so they thought. `, 40)
	chat := func(text string) func(*bytes.Buffer, int) {
		return func(b *bytes.Buffer, _ int) { fmt.Fprintf(b, `{"role":"user","content":"%s"}`, text) }
	}
	chinese := strings.Repeat("天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。", 40)
	escaped := strings.Repeat(`\u5929\u5730\u7384\u9ec4\uff0c`, 100)
	const head, tail = `{"model":"m","stream":true,"messages":[`, `]}`
	return []struct {
		name string
		body []byte
	}{
		{"small chat", []byte(`{"model":"gemma3-4b","messages":[{"role":"system","content":"You are helpful."},{"role":"user","content":"Hello, who are you?"}],"temperature":0.7,"max_tokens":256,"stream":true}`)},
		{"chat, model first", megabyte(head, tail, chat(english))},
		{"chat, model last", megabyte(`{"messages":[`, `],"model":"m"}`, chat(english))},
		{"chat with escapes", megabyte(head, tail, chat(prose))},
		{"chat in Chinese", megabyte(head, tail, chat(chinese))},
		{"chat in Chinese, escaped", megabyte(head, tail, chat(escaped))},
		{"image in base64", megabyte(`{"model":"m","image":"`, `"}`, func(b *bytes.Buffer, i int) { b.WriteString(strings.Repeat("iVBORw0KGgo/", 1<<17)) })},
		{"token ids", megabyte(`{"model":"m","prompt":[`, `]}`, func(b *bytes.Buffer, i int) { fmt.Fprint(b, i*7919%128000) })},
		{"single digits", megabyte(`{"model":"m","prompt":[`, `]}`, func(b *bytes.Buffer, i int) { fmt.Fprint(b, i%10) })},
		{"floats", megabyte(`{"model":"m","input":[`, `]}`, func(b *bytes.Buffer, i int) { fmt.Fprintf(b, " -0.%07d", i*7919%10000000) })},
		{"empty objects", megabyte(`{"model":"m","input":[`, `]}`, func(b *bytes.Buffer, i int) { b.WriteString(`{}`) })},
		{"small objects", megabyte(`{"model":"m","input":[`, `]}`, func(b *bytes.Buffer, i int) { b.WriteString(`{"a":"b"}`) })},
	}
}

func BenchmarkScan(b *testing.B) {
	for _, s := range speedBodies() {
		b.Run(s.name, func(b *testing.B) {
			b.SetBytes(int64(len(s.body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Scan(s.body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkApply(b *testing.B) {
	defaults := mustDefaults(b, someDefaults)
	for _, s := range speedBodies()[:2] {
		fields, err := Scan(s.body)
		if err != nil {
			b.Fatal(err)
		}
		for name, edit := range map[string]Edit{
			"nothing":  {},
			"alias":    {Model: "another"},
			"defaults": {Model: "another", Defaults: defaults},
		} {
			b.Run(s.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				var dst []byte
				for b.Loop() {
					out, err := edit.Apply(dst, s.body, &fields)
					if err != nil {
						b.Fatal(err)
					}
					if name != "nothing" {
						dst = out
					}
				}
			})
		}
	}
}

func BenchmarkFind(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := Find("/v1/chat/completions"); !ok {
			b.Fatal("not found")
		}
	}
}
