package commands

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// run runs 'caddy vllm' with arguments and returns what it printed, and what it
// told of an error.
func run(t *testing.T, args ...string) (out, told string, err error) {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd := &cobra.Command{Use: "vllm", SilenceUsage: true}
	caddycmd.Commands()["vllm"].CobraFunc(cmd)
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return stdout.String(), stderr.String(), err
}

// adminAnswering is the address of an admin API that answers requests for one URI.
func adminAnswering(t *testing.T, uri string, answer any) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.RequestURI() != uri {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, `{"error":"there is no %s"}`, r.URL.RequestURI())
			return
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	_ = srv.Listener.Close()
	srv.Listener = ln
	srv.Start()
	t.Cleanup(srv.Close)
	return "unix/" + path
}

const gibibyte = 1 << 30

func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		name string
		plan vramman.PlanStatus
		want string
		fail bool
	}{
		{
			"a start",
			vramman.PlanStatus{
				Model: "big model", Verdict: "start", Reason: "it fits on GPU-1 once small-1 is gone",
				Need: []vramman.NeedStatus{
					{Card: "NVIDIA H100", Degree: 2, Bytes: 20 * gibibyte, Source: "estimated", Parts: "weights 15.00 GiB"},
					{Card: "NVIDIA L4", Degree: 2, Bytes: 22 * gibibyte, Source: "whole card", Note: "cannot estimate, because so"},
					{Card: "NVIDIA A2", Degree: 2, Bytes: 1, Source: "measured", Parts: "p", Note: "n"},
				},
				Cards: []vramman.CandidateStatus{
					{
						GPU: "GPU-1", Need: 20 * gibibyte, Room: -gibibyte, Budget: 73 * gibibyte, Charged: 10 * gibibyte, Foreign: gibibyte / 2, Total: 80 * gibibyte,
						Holders: []vramman.Holder{{Instance: "small-1", Charged: 9 * gibibyte}, {Instance: "other-1", Charged: gibibyte}}, Chosen: true, Verdict: "once small-1 is gone",
					},
					{GPU: "GPU-22", Need: 22 * gibibyte, Verdict: "its size is not known"},
				},
				Victims: []vramman.VictimStatus{{Instance: "small-1", Action: "sleep"}, {Instance: "tiny-1", Action: "stop"}},
			},
			`big model: start
  it fits on GPU-1 once small-1 is gone

What it needs
  KIND OF CARD  CARDS  ON EACH   FROM        PARTS
  NVIDIA H100   2      20.0 GiB  estimated   weights 15.00 GiB
  NVIDIA L4     2      22.0 GiB  whole card  cannot estimate, because so
  NVIDIA A2     2      0.0 GiB   measured    p; n

Cards
     GPU     NEEDED    FREE      BUDGET    CHARGED   OTHERS   TOTAL     HELD BY                               VERDICT
  *  GPU-1   20.0 GiB  -1.0 GiB  73.0 GiB  10.0 GiB  0.5 GiB  80.0 GiB  small-1 (9.0 GiB), other-1 (1.0 GiB)  once small-1 is gone
     GPU-22  22.0 GiB  0.0 GiB   0.0 GiB   0.0 GiB   0.0 GiB  -         -                                     its size is not known

Who makes room
  INSTANCE  HOW
  small-1   sleep
  tiny-1    stop
`, false,
		},
		{"nothing to do", vramman.PlanStatus{Model: "big model", Verdict: "ready"}, "big model: ready\n", false},
		{"no place", vramman.PlanStatus{Model: "big model", Verdict: "refuse", Reason: "it fits nowhere"}, "big model: refuse\n  it fits nowhere\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := adminAnswering(t, "/vramman/plan?model=big+model", tt.plan)
			for _, asJSON := range []bool{false, true} {
				out, told, err := run(t, "plan", "big model", "--address", address, fmt.Sprintf("--json=%v", asJSON))
				if (err != nil) != tt.fail || told != "" {
					t.Errorf("ended with %v and %q", err, told)
				}
				if !asJSON && out != tt.want {
					t.Errorf("printed\n%s\nnot\n%s", out, tt.want)
				}
				raw, _ := json.Marshal(tt.plan)
				if asJSON && out != string(raw)+"\n" {
					t.Errorf("printed\n%s\nnot\n%s", out, raw)
				}
			}
		})
	}
}

func TestStatus(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := status{Status: vramman.Status{
		Gateway: "main", Time: now, Engine: "ready", Inventory: "ready", Eviction: "lru",
		Models: []vramman.ModelStatus{
			{Name: "a", State: "ready", Queue: vramman.QueueState{Serving: 2, MaxConcurrent: 50, Depth: 3, MaxQueue: 200}, Need: 3 * gibibyte, LastUsed: new(now.Add(-14 * time.Second))},
			{Name: "b", State: "failed", Failure: &vramman.Failure{Class: "memory", Message: "too little was free"}},
			{Name: "c", State: "stopped", Waiting: "for its turn"},
		},
		Instances: []vramman.InstanceStatus{
			{ID: "a-1", State: "ready", Since: now.Add(-time.Minute), GPUs: []string{"GPU-1"}, Charged: 3 * gibibyte, Measured: 2 * gibibyte, Leases: 2},
			{ID: "c-1", State: "starting", Stage: "loading weights", Since: now, GPUs: []string{"GPU-1", "GPU-2"}, Charged: gibibyte},
		},
		GPUs: []vramman.GPUStatus{
			{UUID: "GPU-1", Name: "L4", Pool: "all", Total: 24 * gibibyte, Budget: 22 * gibibyte, Charged: 4 * gibibyte, Foreign: gibibyte, Free: 17 * gibibyte, Holders: []vramman.Holder{{Instance: "a-1", Charged: 3 * gibibyte}}},
			{UUID: "GPU-2", Note: "not measured"},
		},
	}}
	s.Version.Gateway, s.Version.Caddy = "v1", "v2 h1:sum="
	for n := range shownDecisions + 1 {
		s.Decisions = append(s.Decisions, vramman.DecisionStatus{Time: now, Action: "start", Model: fmt.Sprintf("model-%d", n), Reason: "because"})
	}
	out, told, err := run(t, "status", "--address", adminAnswering(t, "/vramman/status", s))
	if err != nil || told != "" {
		t.Fatalf("ended with %v and %q", err, told)
	}
	if want := `gateway main (vllm-gateway v1, Caddy v2)
engine: ready
cards: ready
eviction: lru

Models
  MODEL  STATE    SERVING  WAITING   ON EACH CARD  LAST USED
  a      ready    2 of 50  3 of 200  3.0 GiB       14s ago
  b      failed   0 of 0   0 of 0    -             never      memory: too little was free
  c      stopped  0 of 0   0 of 0    -             never      for its turn

Instances
  INSTANCE  STATE                       SINCE     CHARGED  MEASURED  REQUESTS  GPUS
  a-1       ready                       1m0s ago  3.0 GiB  2.0 GiB   2         GPU-1
  c-1       starting (loading weights)  0s ago    1.0 GiB  -         0         GPU-1, GPU-2

Cards
  GPU    NAME  POOL  TOTAL     BUDGET    CHARGED  OTHERS   FREE      HELD BY
  GPU-1  L4    all   24.0 GiB  22.0 GiB  4.0 GiB  1.0 GiB  17.0 GiB  a-1 (3.0 GiB)
  GPU-2              -         -         0.0 GiB  0.0 GiB  0.0 GiB   -              not measured

Latest decisions
`; !strings.HasPrefix(out, want) {
		t.Errorf("printed\n%s\nnot\n%s", out, want)
	}
	if strings.Contains(out, "model-0 ") || !strings.Contains(out, "model-1 ") || !strings.Contains(out, "model-10") {
		t.Errorf("these are not the latest %d decisions:\n%s", shownDecisions, out)
	}
}

func TestTroubleOfCommands(t *testing.T) {
	nobody := "unix/" + filepath.Join(t.TempDir(), "nobody.sock")
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"asking the gateway at unix/", []string{"status", "--address", nobody}},
		{"there is no /vramman/plan?model=a", []string{"plan", "a", "--address", adminAnswering(t, "/vramman/status", nil)}},
		{"reading the gateway's answer", []string{"status", "--address", adminAnswering(t, "/vramman/status", "text")}},
		{"accepts 1 arg(s)", []string{"plan"}},
		{"unknown command", []string{"status", "a"}},
		{"unknown command", []string{"stop"}},
		{"finding the admin API's address", []string{"status", "--config", "/does/not/exist.json"}},
	} {
		out, told, err := run(t, tt.args...)
		if err == nil || !strings.Contains(told, tt.want) || out != "" {
			t.Errorf("%q: printed %q and ended with %q, want %q", tt.args, out, told, tt.want)
		}
	}
	if out, _, err := run(t); err != nil || !strings.Contains(out, "plan") || !strings.Contains(out, "status") {
		t.Errorf("without arguments it ended with %v and printed\n%s", err, out)
	}
}
