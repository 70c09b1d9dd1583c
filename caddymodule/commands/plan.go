package commands

// This file owns the subcommand vllm plan.

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// refused is the verdict on a model whose requests would be refused.
const refused = "refuse"

var errRefused = errors.New("the model's requests would be refused")

func planCommand() *cobra.Command {
	return question[vramman.PlanStatus]{
		uri:  func(args []string) string { return "/vramman/plan?model=" + url.QueryEscape(args[0]) },
		show: showPlan,
		verdict: func(p *vramman.PlanStatus) error {
			if p.Verdict == refused {
				return errRefused
			}
			return nil
		},
	}.on(&cobra.Command{
		Use:   "plan <model>",
		Short: "Tells what would happen if a model were asked for now",
		Long: `
Tells what would happen if a model were asked for now, and why: how much VRAM it
needs and what that is taken from, how each card stands, and who would make room.
Nothing is started.

The exit status is 1 if its requests would be refused.`,
		Args: cobra.ExactArgs(1),
	})
}

// showPlan writes a plan as text.
func showPlan(w io.Writer, p *vramman.PlanStatus) error {
	fmt.Fprintf(w, "%s: %s\n", p.Model, p.Verdict)
	if p.Reason != "" {
		fmt.Fprintf(w, "  %s\n", p.Reason)
	}

	needs := table{title: "What it needs"}
	needs.row("KIND OF CARD", "CARDS", "ON EACH", "FROM", "PARTS")
	for _, n := range p.Need {
		parts := n.Parts
		if n.Note != "" {
			if parts != "" {
				parts += "; "
			}
			parts += n.Note
		}
		needs.row(n.Card, strconv.Itoa(n.Degree), gib(n.Bytes), n.Source, parts)
	}
	if err := needs.write(w); err != nil {
		return err
	}

	cards := table{title: "Cards"}
	cards.row("", "GPU", "NEEDED", "FREE", "BUDGET", "CHARGED", "OTHERS", "TOTAL", "HELD BY", "VERDICT")
	for _, c := range p.Cards {
		mark := ""
		if c.Chosen {
			mark = "*"
		}
		cards.row(mark, c.GPU, gib(c.Need), gib(c.Room), gib(c.Budget), gib(c.Charged), gib(c.Foreign), known(c.Total), held(c.Holders), c.Verdict)
	}
	if err := cards.write(w); err != nil {
		return err
	}

	victims := table{title: "Who makes room"}
	victims.row("INSTANCE", "HOW")
	for _, v := range p.Victims {
		victims.row(v.Instance, v.Action)
	}
	return victims.write(w)
}
