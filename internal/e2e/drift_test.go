package e2e

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/vllm-gateway/vllm-gateway/internal/dockertest"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// This file tests what the audit finds: where the ledger, the cards and the engine
// differ.

func TestPeak(t *testing.T)       { t.Parallel(); peak(t, simulated) }
func TestDockerPeak(t *testing.T) { t.Parallel(); peak(t, docker) }

// peak has a server take more once it serves than it was charged: that is charged,
// found and counted, and the next start is charged it from the beginning.
func peak(t *testing.T, engine string) {
	a := newApart(t, engine, "gpu GPU-1 24GiB\ngpu GPU-2 8GiB")
	grows, weights := a.model(t, "grows", llama(32000))
	a.run(t, fmt.Sprintf(`
		defaults {
			min_residency 0s
			%s
		}
		model grows {
			repo %q
			pin_gpus GPU-1
			env VLLM_SIM_PEAK %d
		}
		model other {
			repo org/other
			pin_gpus GPU-1
			vram 20GiB
		}
		model look {
			repo org/look
			pin_gpus GPU-2
			vram 2GiB
		}`, working, grows, 2*gib))
	a.ask(t, "grows")
	before := a.instance(t, "grows").Declared
	a.ask(t, "look") // its start has the cards read
	took := a.used(t, "GPU-1")
	eventually(t, "what it takes is charged", func() bool { return a.instance(t, "grows").Charged == took })
	if !near(took, weights+8*8192*65536+workingBytes+2*gib) || before >= took {
		t.Errorf("it takes %d and was charged %d", took, before)
	}
	s := a.status(t)
	var found []vramman.Finding
	for _, f := range s.Audit.Findings {
		if f.Instance == "grows-1" {
			found = append(found, f)
		}
	}
	if len(found) != 1 || found[0].Kind != vramman.FindingUnderCharged || found[0].Bytes != took-before || found[0].GPU != "GPU-1" || s.Audit.Drift[vramman.FindingUnderCharged] < 1 {
		t.Errorf("%d was found as %+v", took-before, s.Audit)
	}
	if card := s.GPUs[0]; card.Foreign != 0 || card.Charged != took {
		t.Errorf("its card is %+v", card)
	}
	n := a.measured(t, "grows")
	if n.Bytes < took || !near(n.Bytes, took) {
		t.Errorf("of %d the next start is given %+v", took, n)
	}
	a.ask(t, "other") // in its place
	a.ask(t, "grows")
	if i := a.instance(t, "grows"); i.Declared != n.Bytes || i.Source != "measured" {
		t.Errorf("the second instance is %+v", i)
	}
	for _, f := range a.findings(t) {
		if f.Instance == "grows-2" {
			t.Errorf("of the second instance was found %+v", f)
		}
	}
}

// A container with this gateway's labels that it does not know is removed, once two
// lists in a row had it; one of another gateway stays.
func TestDockerUnknownContainer(t *testing.T) {
	t.Parallel()
	a := startApart(t, docker, "gpu GPU-1 24GiB", `
		defaults {
			vram 4GiB
		}
		model known {
			repo org/known
		}
		model look {
			repo org/look
		}`)
	a.ask(t, "known")
	known, err := a.api.ContainerInspect(t.Context(), a.server(t, "known").id, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	run := func(name, gateway, instance string) string {
		t.Helper()
		labels := maps.Clone(known.Container.Config.Labels)
		labels["vllm-gateway.gateway"], labels["vllm-gateway.instance"] = gateway, instance
		made, err := a.api.ContainerCreate(t.Context(), client.ContainerCreateOptions{
			Name: a.name + "-" + name, Image: dockertest.Image(t, a.api, "github.com/vllm-gateway/vllm-gateway/cmd/vllm-sim"),
			Config: &container.Config{Labels: labels},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_, _ = a.api.ContainerRemove(context.Background(), made.ID, client.ContainerRemoveOptions{Force: true})
		})
		if _, err := a.api.ContainerStart(t.Context(), made.ID, client.ContainerStartOptions{}); err != nil {
			t.Fatal(err)
		}
		return made.ID
	}
	stray, others := run("stray", a.name, "stray-7"), run("others", a.name+"-other", "stray-8")
	a.ask(t, "look") // after each change the engine is asked what runs
	unknown := func(s status) (found []vramman.Finding) {
		for _, f := range s.Audit.Findings {
			if f.Kind == vramman.FindingUnknown {
				found = append(found, f)
			}
		}
		return found
	}
	eventually(t, "it is found", func() bool { return a.status(t).Audit.Drift[vramman.FindingUnknown] > 0 })
	s := a.status(t)
	if found := unknown(s); len(found) != 1 || found[0].Instance != "stray-7" || s.Audit.Drift[vramman.FindingUnknown] != 1 {
		t.Errorf("found %+v", s.Audit)
	}
	eventually(t, "it is removed", func() bool {
		_, err := a.api.ContainerInspect(t.Context(), stray, client.ContainerInspectOptions{})
		return err != nil && strings.Contains(err.Error(), "No such container")
	})
	for _, id := range []string{others, known.Container.ID} {
		if c, err := a.api.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{}); err != nil || !c.Container.State.Running {
			t.Errorf("another container does not run: %v", err)
		}
	}
	a.ask(t, "known")
	if a.count(t, "start", "known") != 1 {
		t.Errorf("%q", a.actions(t, "known"))
	}
}
