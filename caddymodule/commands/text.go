package commands

// This file owns how answers look as text: tables, sizes and times.

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// table is rows of cells, the first with the columns' names.
type table struct {
	title string
	rows  [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// write writes a table that has rows beside the columns' names, after an empty line.
func (t *table) write(w io.Writer) error {
	if len(t.rows) < 2 {
		return nil
	}
	var text strings.Builder
	aligned := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, cells := range t.rows {
		fmt.Fprintf(aligned, "  %s\n", strings.Join(cells, "\t"))
	}
	if err := aligned.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s\n", t.title)
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// gib is a size in words.
func gib(bytes int64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30)) }

// known is a size in words, or a dash if it is 0 and that means that nobody knows it.
func known(bytes int64) string {
	if bytes == 0 {
		return "-"
	}
	return gib(bytes)
}

// ago is how long before now a moment was, in words; nil: never.
func ago(at *time.Time, now time.Time) string {
	if at == nil {
		return "never"
	}
	return now.Sub(*at).Round(time.Second).String() + " ago"
}

// held is who holds a card, in words.
func held(holders []vramman.Holder) string {
	words := make([]string, len(holders))
	for i, h := range holders {
		words[i] = h.Instance + " (" + gib(h.Charged) + ")"
	}
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, ", ")
}
