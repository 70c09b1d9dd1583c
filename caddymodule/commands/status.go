package commands

// This file owns the subcommand vllm status.

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// shownDecisions is how many of the latest decisions are shown as text.
const shownDecisions = 10

// status is the gateway's status, as far as it is shown.
type status struct {
	Version struct {
		Gateway string `json:"gateway"`
		Caddy   string `json:"caddy"`
	} `json:"version"`
	vramman.Status
}

func statusCommand() *cobra.Command {
	return question[status]{
		uri:  func([]string) string { return "/vramman/status" },
		show: showStatus,
	}.on(&cobra.Command{
		Use:   "status",
		Short: "Tells what the gateway is doing",
		Long: `
Tells the state of models, instances and cards, who holds how much of each card,
and the latest decisions with their reasons.`,
		Args: cobra.NoArgs,
	})
}

// showStatus writes the status as text.
func showStatus(w io.Writer, s *status) error {
	caddy, _, _ := strings.Cut(s.Version.Caddy, " ") // a checksum may follow
	fmt.Fprintf(w, "gateway %s (vllm-gateway %s, Caddy %s)\n", s.Gateway, s.Version.Gateway, caddy)
	fmt.Fprintf(w, "engine: %s\ncards: %s\neviction: %s\n", s.Engine, s.Inventory, s.Eviction)
	decisions := s.Decisions[max(0, len(s.Decisions)-shownDecisions):]
	for _, t := range []table{
		modelTable(s), instanceTable(s.Instances, s.Time), cardTable(s.GPUs), decisionTable(decisions),
	} {
		if err := t.write(w); err != nil {
			return err
		}
	}
	return nil
}

func modelTable(s *status) table {
	t := table{title: "Models"}
	t.row("MODEL", "STATE", "SERVING", "WAITING", "ON EACH CARD", "LAST USED", "")
	for _, m := range s.Models {
		note := m.Waiting
		if f := m.Failure; f != nil {
			note = fmt.Sprintf("%s: %s", f.Class, f.Message)
		}
		t.row(m.Name, m.State, of(m.Queue.Serving, m.Queue.MaxConcurrent), of(m.Queue.Depth, m.Queue.MaxQueue),
			known(m.Need), ago(m.LastUsed, s.Time), note)
	}
	return t
}

func of(n, most int) string { return fmt.Sprintf("%d of %d", n, most) }

func instanceTable(instances []vramman.InstanceStatus, now time.Time) table {
	t := table{title: "Instances"}
	t.row("INSTANCE", "STATE", "SINCE", "CHARGED", "MEASURED", "REQUESTS", "GPUS")
	for _, i := range instances {
		state := i.State
		if i.Stage != "" {
			state += " (" + i.Stage + ")"
		}
		t.row(i.ID, state, ago(&i.Since, now), gib(i.Charged), known(i.Measured), fmt.Sprint(i.Leases), strings.Join(i.GPUs, ", "))
	}
	return t
}

func cardTable(cards []vramman.GPUStatus) table {
	t := table{title: "Cards"}
	t.row("GPU", "NAME", "POOL", "TOTAL", "BUDGET", "CHARGED", "OTHERS", "FREE", "HELD BY", "")
	for _, c := range cards {
		t.row(c.UUID, c.Name, c.Pool, known(c.Total), known(c.Budget), gib(c.Charged), gib(c.Foreign), gib(c.Free), held(c.Holders), c.Note)
	}
	return t
}

func decisionTable(decisions []vramman.DecisionStatus) table {
	t := table{title: "Latest decisions"}
	t.row("TIME", "WHAT", "MODEL", "REASON")
	for _, d := range decisions {
		t.row(d.Time.Local().Format(time.TimeOnly), d.Action, d.Model, d.Reason)
	}
	return t
}
