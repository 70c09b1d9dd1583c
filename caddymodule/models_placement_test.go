// This file tests the options about how much models take, where they run and what
// they do to others for it.

package caddymodule

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/vllm-gateway/vllm-gateway/vramman"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// twoPools declares the pool p of three cards, shared, and q of two, whole, in
// seven lines.
const twoPools = "pool p {\n gpu GPU-1 GPU-2 GPU-3\n}\npool q {\n gpu GPU-4 GPU-5\n placement whole_card\n}\n"

func TestPlacementOptions(t *testing.T) {
	for _, tt := range []struct {
		name, defaults, model string
		want                  vramman.ModelSpec // but for what does not matter here
	}{
		{"nothing said", "", "pool p", vramman.ModelSpec{Pool: "p", Launch: server.Model{Repo: "org/a", TensorParallel: 1}}},
		{
			"everything said", "", "pool q\n tensor_parallel auto\n max_num_seqs 8\n kv_reservation_seqs 4\n pin_gpus GPU-4\n exclude_gpus GPU-5\n colocate\n on_conflict wait\n preload\n replicas 3",
			vramman.ModelSpec{
				Pool: "q", Launch: server.Model{Repo: "org/a", MaxNumSeqs: 8, ReservedSeqs: 4}, AutoParallel: true, Pin: []string{"GPU-4"},
				Exclude: []string{"GPU-5"}, Colocate: true, OnConflict: scheduler.Hold, Preload: true, Replicas: 3,
			},
		},
		{
			"from the defaults", "tensor_parallel auto\n kv_reservation_seqs 4\n pin_gpus GPU-1 GPU-2\n exclude_gpus GPU-3\n colocate\n on_conflict reject\n preload", "pool p",
			vramman.ModelSpec{
				Pool: "p", Launch: server.Model{Repo: "org/a", ReservedSeqs: 4}, AutoParallel: true, Pin: []string{"GPU-1", "GPU-2"},
				Exclude: []string{"GPU-3"}, Colocate: true, OnConflict: scheduler.Reject, Preload: true,
			},
		},
		{
			"instead of the defaults", "tensor_parallel auto\n kv_reservation_seqs 4\n pin_gpus GPU-1\n exclude_gpus GPU-2\n on_conflict reject\n preload\n colocate",
			"pool p\n tensor_parallel 2\n kv_reservation_seqs 2\n pin_gpus GPU-2 GPU-3\n on_conflict evict\n preload off\n colocate off",
			vramman.ModelSpec{Pool: "p", Launch: server.Model{Repo: "org/a", TensorParallel: 2, ReservedSeqs: 2}, Pin: []string{"GPU-2", "GPU-3"}},
		},
		{
			"auto instead of a number", "tensor_parallel 2", "pool p\n tensor_parallel auto",
			vramman.ModelSpec{Pool: "p", Launch: server.Model{Repo: "org/a"}, AutoParallel: true},
		},
		{
			"a card of the defaults' left out", "pin_gpus GPU-1 GPU-2", "pool p\n exclude_gpus GPU-2",
			vramman.ModelSpec{Pool: "p", Launch: server.Model{Repo: "org/a", TensorParallel: 1}, Pin: []string{"GPU-1", "GPU-2"}, Exclude: []string{"GPU-2"}},
		},
		{
			"a card of another pool left out by the defaults", "exclude_gpus GPU-1", "pool q",
			vramman.ModelSpec{Pool: "q", Launch: server.Model{Repo: "org/a", TensorParallel: 1}, Exclude: []string{"GPU-1"}},
		},
		{
			"auto in the defaults and a declared footprint", "tensor_parallel auto", "pool p\n vram 3GiB",
			vramman.ModelSpec{Pool: "p", Launch: server.Model{Repo: "org/a"}, AutoParallel: true, Need: placement.Need{Bytes: 3 << 30}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := specOf(t, twoPools+"defaults {\n"+tt.defaults+"\n}\nmodel a {\n repo org/a\n"+tt.model+"\n}").Models[0]
			tt.want.Name, tt.want.Launch.Name = "a", "a"
			got.Server, got.Launch.Env, got.Launch.Mounts, got.Launch.Args = nil, nil, nil, nil
			limits := vramman.ModelSpec{
				IdleTimeout: got.IdleTimeout, MinResidency: got.MinResidency, StartTimeout: got.StartTimeout,
				StopGrace: got.StopGrace, MaxConcurrent: got.MaxConcurrent, MaxQueue: got.MaxQueue, MaxWait: got.MaxWait,
			}
			tt.want.IdleTimeout, tt.want.MinResidency, tt.want.StartTimeout, tt.want.StopGrace = limits.IdleTimeout, limits.MinResidency, limits.StartTimeout, limits.StopGrace
			tt.want.MaxConcurrent, tt.want.MaxQueue, tt.want.MaxWait = limits.MaxConcurrent, limits.MaxQueue, limits.MaxWait
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got\n%+v, want\n%+v", got, tt.want)
			}
		})
	}
}

// TestPinWithoutPools shows that cards can be named where no pool lists them.
func TestPinWithoutPools(t *testing.T) {
	got := specOf(t, "model a {\n repo r\n pin_gpus GPU-1 GPU-2\n tensor_parallel 2\n}").Models[0]
	if want := []string{"GPU-1", "GPU-2"}; !reflect.DeepEqual(got.Pin, want) {
		t.Errorf("got %q, want %q", got.Pin, want)
	}
}

func TestSleepMemory(t *testing.T) {
	if got := specOf(t, "sleep_memory 64GiB").SleepMemory; got != 64<<30 {
		t.Errorf("got %d", got)
	}
	if got := specOf(t, "").SleepMemory; got != 0 {
		t.Errorf("got %d where nothing is said", got)
	}
}

func TestWhichGGUFFile(t *testing.T) {
	for _, tt := range []struct{ options, repo, file string }{
		{"repo org/a", "org/a", ""},
		{"repo org/a:Q4_K_M", "org/a", "Q4_K_M"},
		{"repo org/a\n file sub/a-Q4_K_M.gguf", "org/a", "sub/a-Q4_K_M.gguf"},
		{"repo /srv/a:Q4_K_M", "/srv/a:Q4_K_M", ""},
		{"repo s3://bucket/a", "s3://bucket/a", ""},
	} {
		if got := specOf(t, "model a {\n "+tt.options+"\n}").Models[0].Launch; got.Repo != tt.repo || got.File != tt.file {
			t.Errorf("%q: got repository %q and file %q, want %q and %q", tt.options, got.Repo, got.File, tt.repo, tt.file)
		}
	}
}

func TestMistakesOfPlacement(t *testing.T) {
	a := func(options string) string { return "model a {\n repo r\n " + options + "\n}" }
	for _, tt := range []struct {
		name, options, want string
		line                int // of the options, from 1
	}{
		{"neither a number nor auto", a("tensor_parallel many"), "tensor_parallel: 'many' is not a whole number", 3},
		{"auto and a footprint", a("vram 3GiB\n tensor_parallel auto"), "model a: vram and gpu_memory_utilization say what it takes of each card", 4},
		{"auto and a share", a("gpu_memory_utilization 0.5\n tensor_parallel auto"), "model a: vram and gpu_memory_utilization say what it takes of each card", 4},
		{"auto twice", a("tensor_parallel auto\n tensor_parallel 2"), "tensor_parallel is already specified", 4},
		{"no sequences", a("kv_reservation_seqs 0"), "kv_reservation_seqs must be at least 1", 3},
		{"more sequences than are computed", a("max_num_seqs 4\n kv_reservation_seqs 8"), "model a: kv_reservation_seqs is 8, but max_num_seqs is 4", 4},
		{"more sequences than the defaults compute", "defaults {\n max_num_seqs 4\n}\n" + a("kv_reservation_seqs 8"), "model a: kv_reservation_seqs is 8, but max_num_seqs is 4", 6},
		{"fewer sequences than the defaults reserve", "defaults {\n kv_reservation_seqs 8\n}\n" + a("max_num_seqs 4"), "model a: kv_reservation_seqs is 8, but max_num_seqs is 4", 6},
		{"on_conflict", a("on_conflict fight"), "model a: on_conflict is 'fight', but must be 'evict', 'wait' or 'reject'", 3},
		{"on_conflict in the defaults", "defaults {\n on_conflict fight\n}", "defaults: on_conflict is 'fight'", 2},
		{"no word for on_conflict", a("on_conflict"), "wrong argument count", 3},
		{"preload", a("preload yes"), "preload is 'yes', but must be 'on' or 'off'", 3},
		{"no replicas", a("replicas 0"), "replicas must be at least 1", 3},
		{"too many replicas", a("replicas 5"), "model a: replicas is 5, but must be 1 to 4", 3},
		{"sleep", a("sleep yes"), "sleep is 'yes', but must be 'on' or 'off'", 3},
		{"too little memory for sleep", "sleep_memory 64", "sleep_memory: '64' is too little: is a unit missing", 1},
		{"no memory for sleep", "sleep_memory much", "sleep_memory: 'much' is not a size", 1},
		{"variable of the gateway", a("env VLLM_SERVER_DEV_MODE 1"), "the gateway sets VLLM_SERVER_DEV_MODE itself", 3},

		{"no cards named", a("pin_gpus"), "wrong argument count", 3},
		{"empty card", a(`exclude_gpus ""`), "exclude_gpus has an empty value", 3},
		{"cards with a comma", a("pin_gpus GPU-1,GPU-2"), `model a: pin_gpus: "GPU-1,GPU-2" cannot be a GPU's UUID`, 3},
		{"card pinned twice", a("pin_gpus GPU-1\n pin_gpus GPU-1"), "model a: GPU GPU-1 stands in pin_gpus twice", 4},
		{"card excluded twice", a("exclude_gpus GPU-1 GPU-1"), "model a: GPU GPU-1 stands in exclude_gpus twice", 3},
		{"pinned and excluded", a("pin_gpus GPU-1 GPU-2\n exclude_gpus GPU-2"), "model a: GPU GPU-2 is pinned and excluded", 4},
		{"card of another pool pinned", twoPools + a("pool p\n pin_gpus GPU-1 GPU-4"), "model a: pin_gpus: GPU GPU-4 is not in pool p", 11},
		{"card of another pool excluded", twoPools + a("pool p\n exclude_gpus GPU-4"), "model a: exclude_gpus: GPU GPU-4 is not in pool p", 11},
		{"card of another pool pinned by the defaults", twoPools + "defaults {\n pin_gpus GPU-4\n}\n" + a("pool p"), "model a: pin_gpus: GPU GPU-4 is not in pool p", 13},
		{"unknown card excluded by the defaults", twoPools + "defaults {\n exclude_gpus GPU-9\n}\n" + a("pool p"), "model a: exclude_gpus: GPU GPU-9 is not in pool p", 9},
		{"fewer pinned than it needs", twoPools + a("pool p\n pin_gpus GPU-1\n tensor_parallel 2"), "model a: tensor_parallel is 2, but pin_gpus and exclude_gpus leave it 1 GPU", 11},
		{"fewer pinned than it needs, without pools", a("pin_gpus GPU-1\n tensor_parallel 2"), "model a: tensor_parallel is 2, but pin_gpus and exclude_gpus leave it 1 GPU", 3},
		{"more excluded than it can do without", twoPools + a("pool p\n exclude_gpus GPU-1 GPU-2\n tensor_parallel 2"), "model a: tensor_parallel is 2, but pin_gpus and exclude_gpus leave it 1 GPU", 11},
		{"all excluded", twoPools + a("pool q\n exclude_gpus GPU-4\n exclude_gpus GPU-5"), "model a: pin_gpus and exclude_gpus leave it no GPU", 12},
		{"all excluded that the defaults pin", twoPools + "defaults {\n pin_gpus GPU-1\n}\n" + a("pool p\n exclude_gpus GPU-1"), "model a: pin_gpus and exclude_gpus leave it no GPU", 14},
		{"all cards of a model excluded by the defaults", twoPools + "defaults {\n exclude_gpus GPU-4 GPU-5\n}\n" + a("pool q"), "model a: pin_gpus and exclude_gpus leave it no GPU", 9},

		{"colocate where all do", twoPools + a("pool p\n colocate"), "model a: colocate is for pools with 'placement whole_card'", 11},
		{"colocate without pools", a("colocate"), "model a: colocate is for pools with 'placement whole_card'", 3},
		{"colocate in the defaults for nobody", "defaults {\n colocate\n}\n" + a(""), "defaults: colocate is for pools with 'placement whole_card', and there is none", 2},

		{"file twice", a("file a.gguf\n file b.gguf"), "file is already specified", 4},
		{"file in the defaults", "defaults {\n file a.gguf\n}", "unrecognized model option 'file'", 2},
		{"file and quantization", "model a {\n repo org/a:Q4_K_M\n file a.gguf\n}", "model a: the file and the quantization 'Q4_K_M' in the repo both say", 3},
		{"quantization as a file", a("file Q4_K_M"), "model a: file must be the name of a GGUF file", 3},
		{"file outside of the repository", a("file ../a.gguf"), "model a: file must be a path within the repository", 3},
		{"file by its full path", a("file /srv/a.gguf"), "model a: file must be a path within the repository", 3},
		{"file that looks like a flag", a("file --x.gguf"), "cannot be a value of file", 3},
		{"no quantization", "model a {\n repo org/a:latest\n}", "model a: repo: what follows the colon in 'org/a:latest' must be a quantization", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantMistake(t, vrammanFile(tt.options), tt.want, bodyLine+tt.line-1)
		})
	}
}

func TestMistakesOfPlacementInJSON(t *testing.T) {
	for json, want := range map[string]string{
		`"sleep_memory": 64`: "sleep_memory of 64 bytes is too little",
		`"sleep_memory": -1`: "sleep_memory of -1 bytes is too little",
		`"models": [{"name": "a", "repo": "r", "tensor_parallel": 2, "tensor_parallel_auto": true}]`: "tensor_parallel and tensor_parallel_auto both say",
		`"models": [{"name": "a", "repo": "r", "kv_reservation_seqs": -1}]`:                          "kv_reservation_seqs must be at least 1",
		`"models": [{"name": "a", "repo": "r", "pin_gpus": [""]}]`:                                   `pin_gpus: "" cannot be a GPU's UUID`,
		`"models": [{"name": "a", "repo": "r", "on_conflict": "EVICT"}]`:                             "on_conflict is 'EVICT'",
		`"models": [{"name": "a", "repo": "r:x"}]`:                                                   "must be a quantization",
	} {
		err := validate(t, quietConfig(`{`+guests+`, `+json+`}`))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", json, err, want)
		}
	}
}

// fakeGuest is a server module whose server is srv.
type fakeGuest struct{ srv server.Server }

func (fakeGuest) CaddyModule() caddy.ModuleInfo { return caddy.ModuleInfo{} }
func (g fakeGuest) Server() server.Server       { return g.srv }
func (fakeGuest) Instead(string) string         { return "" }

// TestSleepNeedsAServerThatCan shows that a model is told at load time that it
// will never sleep.
func TestSleepNeedsAServerThatCan(t *testing.T) {
	awake := fakeGuest{fakeServer{}}
	for _, tt := range []struct {
		name            string
		model, defaults ModelOptions
		refused         bool
	}{
		{"not asked for", ModelOptions{}, ModelOptions{}, false},
		{"asked for", ModelOptions{PlacementOptions: PlacementOptions{Sleep: new(true)}}, ModelOptions{}, true},
		{"by the defaults", ModelOptions{}, ModelOptions{PlacementOptions: PlacementOptions{Sleep: new(true)}}, true},
		{"but not by the model", ModelOptions{PlacementOptions: PlacementOptions{Sleep: new(false)}}, ModelOptions{PlacementOptions: PlacementOptions{Sleep: new(true)}}, false},
	} {
		a := &App{Defaults: tt.defaults}
		m := &Model{Name: "a", ModelOptions: tt.model}
		err := checkAgainstServer(m, a.complete(m), awake)
		if (err != nil) != tt.refused || err != nil && !strings.Contains(err.Error(), "model a: sleep: its server cannot be put to sleep") {
			t.Errorf("%s: got error %v", tt.name, err)
		}
		if err := checkAgainstServer(m, a.complete(m), fakeGuest{sleepyServer{}}); err != nil {
			t.Errorf("%s: refused for a server that can: %v", tt.name, err)
		}
		if got := m.spec(a.complete(m), sleepyServer{}, nil, nil).Launch.Sleep; got != tt.refused {
			t.Errorf("%s: launched for sleep: %v", tt.name, got)
		}
	}
}

// sleepyServer is a fakeServer that can be put to sleep.
type sleepyServer struct{ fakeServer }

func (s sleepyServer) SleepRequest() *http.Request { return s.ReadyRequest() }
func (s sleepyServer) WakeRequest() *http.Request  { return s.ReadyRequest() }
