package caddymodule

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

func TestRequestOptions(t *testing.T) {
	spec := specOf(t, `total_concurrent 9
total_queue 8
default_model sql
defaults {
	n_limit 4
}
model a {
	repo r
	lora sql=org/sql
	max_tokens_limit 100
}
model b {
	repo r
	n_limit 2
}`)
	if spec.TotalConcurrent != 9 || spec.TotalQueue != 8 {
		t.Errorf("the totals are %d and %d", spec.TotalConcurrent, spec.TotalQueue)
	}
	if got := spec.Models[0].Launch.LoRA; !slices.Equal(got, []server.LoRA{{Name: "sql", Path: "org/sql"}}) {
		t.Errorf("the adapters are %v", got)
	}
	config, _, err := adapt(vrammanFile("defaults {\n n_limit 4\n}\nmodel a {\n repo r\n max_tokens_limit 100\n}"))
	if err != nil {
		t.Fatal(err)
	}
	if got := provision(t, config).RequestLimits("a"); got != (openai.Limits{MaxTokens: 100, N: 4}) {
		t.Errorf("the limits are %+v", got)
	}
}

func TestMistakesInRequestOptions(t *testing.T) {
	for _, tt := range []struct {
		name, options, want string
		line                int
	}{
		{"negative total", "total_concurrent -1", "total_concurrent must be at least 0", 1},
		{"no total", "total_queue", "wrong argument count", 1},
		{"total of a model", "model a {\n repo r\n total_queue 5\n}", "unrecognized model option 'total_queue'", 3},
		{"unknown default", "default_model b\nmodel a {\n repo r\n}", "default_model: there is no model b", 1},
		{"no answers", "model a {\n repo r\n n_limit 0\n}", "n_limit must be at least 1", 3},
		{"no tokens", "model a {\n repo r\n max_tokens_limit many\n}", "'many' is not a whole number", 3},
		{"adapter without a path", "model a {\n repo r\n lora sql\n}", "'sql' is not an adapter: write 'lora <name>=<repository or folder>'", 3},
		{"adapter with an odd path", "model a {\n repo r\n lora sql=a=b\n}", `"a=b" cannot be where the adapter sql is`, 3},
		{"adapter with an odd name", "model a {\n repo r\n lora a,b=c\n}", "the adapter a,b has '=' or ','", 3},
		{"adapter with a taken name", "model a {\n repo r\n alias sql\n lora sql=x\n}", "the adapter sql has a name of model a", 4},
		{"adapter twice", "model a {\n repo r\n lora sql=x\n}\nmodel b {\n repo r\n lora sql=y\n}", "the adapter sql has a name of model a", 7},
		{"alias that is an adapter", "model a {\n repo r\n lora sql=x\n}\nmodel b {\n repo r\n alias sql\n}", "the alias sql is a name of model a already", 7},
		{"adapter in the defaults", "defaults {\n lora sql=x\n}", "unrecognized model option 'lora'", 2},
		{"adapters in args too", "model a {\n repo r\n args --lora_modules x=y\n lora sql=x\n}", "--lora-modules cannot stand in args beside lora", 3},
	} {
		t.Run(tt.name, func(t *testing.T) { wantMistake(t, vrammanFile(tt.options), tt.want, bodyLine+tt.line-1) })
	}
	for json, want := range map[string]string{
		`"total_queue": -1`: "total_queue must be at least 0",
		`"models": [{"name": "a", "repo": "r", "max_tokens_limit": -1}]`:                "max_tokens_limit must be at least 1",
		`"models": [{"name": "a", "repo": "r", "lora": [{"name": "b"}]}]`:               "the adapter b is without a path",
		`"models": [{"name": "a", "repo": "r", "lora": [{"path": "b"}]}]`:               "a model is without a name",
		`"models": [{"name": "a", "repo": "r"}], "default_model": "A"`:                  "there is no model A",
		`"models": [{"name": "a", "repo": "r", "lora": [{"name": "b", "path": "-x"}]}]`: "cannot be where",
	} {
		if err := validate(t, quietConfig(`{`+guests+`, `+json+`}`)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", json, err)
		}
	}
}

func TestMistakesInAdmission(t *testing.T) {
	for options, want := range map[string]string{
		"keepalive 10ms":  "keepalive must be at least 1s",
		"keepalive":       "wrong argument count",
		"client_header":   "wrong argument count",
		"keepalive often": "is not a time",
	} {
		for _, directive := range []string{"vllm_gateway", "vllm_admission"} {
			_, _, err := adapt(vrammanFile("") + ":8080 {\n" + directive + " {\n" + options + "\n}\n}\n")
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s { %s }: %v", directive, options, err)
			}
		}
	}
}

// What a request for a name becomes: which model serves it, and under which name.
func TestWhereRequestsGo(t *testing.T) {
	app := appWith(t, new(fakeEngine), func(m *vramman.ModelSpec) { m.Launch.LoRA = []server.LoRA{{Name: "sql", Path: "org/sql"}} })
	app.requestLimits = map[string]openai.Limits{"tiny": {MaxTokens: 100, N: 1}}
	a := admissionTo(app, zapcore.NewNopCore())
	tests := []struct {
		name    string
		body    string
		with    string // default_model
		caller  *Caller
		want    string // the body that the server gets; empty: refused with code
		code    string
		adapter bool
	}{
		{"model", `{"model":"tiny"}`, "", nil, `{"model":"tiny","temperature":0.5}`, "", false},
		{"adapter", `{"model":"sql"}`, "", nil, `{"model":"sql","temperature":0.5}`, "", true},
		{"no model", `{"a":1}`, "", nil, "", "model_required", false},
		{"default", `{"a":1}`, "tiny-alias", nil, `{"a":1,"model":"tiny","temperature":0.5}`, "", false},
		{"default adapter", `{"a":1,"model":""}`, "sql", nil, `{"a":1,"model":"sql","temperature":0.5}`, "", true},
		{"default, and another", `{"model":"none"}`, "tiny", nil, "", "model_not_found", false},
		{"limits", `{"model":"sql","max_tokens":500,"n":3,"priority":-5}`, "", nil, `{"model":"sql","max_tokens":100,"n":1,"temperature":0.5}`, "", true},
		{"limit of a text", `{"model":"tiny","n":"3"}`, "", nil, "", "invalid_body", false},
		{"key for the model", `{"model":"tiny"}`, "", &Caller{Models: []string{"tiny"}}, `{"model":"tiny","temperature":0.5}`, "", false},
		{"key for the model, adapter", `{"model":"sql"}`, "", &Caller{Models: []string{"tiny"}}, "", "model_not_found", false},
		{"key for the adapter", `{"model":"sql"}`, "", &Caller{Models: []string{"sql"}}, `{"model":"sql","temperature":0.5}`, "", true},
		{"key for the adapter, model", `{"model":"tiny"}`, "", &Caller{Models: []string{"sql"}}, "", "model_not_found", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			app.DefaultModel = tt.with
			r := chat(tt.body)
			if tt.caller != nil {
				r = withCaller(r, tt.caller)
			}
			var seen string
			w := serve(t, a, r, func(_ http.ResponseWriter, r *http.Request) error {
				b, err := io.ReadAll(r.Body)
				seen = string(b)
				x := exchangeOf(r.Context())
				enc := zapcore.NewMapObjectEncoder()
				_ = x.MarshalLogObject(enc)
				if _, told := enc.Fields["adapter"]; x.model != "tiny" || told != tt.adapter {
					t.Errorf("the log says %v", enc.Fields)
				}
				return err
			})
			if seen != tt.want || tt.want == "" && !strings.Contains(w.Body.String(), `"code":"`+tt.code+`"`) {
				t.Errorf("the server gets %s; status %d, %s", seen, w.Code, w.Body)
			}
		})
	}
}

// A form names an adapter too, and the server is told its name.
func TestAdapterInAForm(t *testing.T) {
	app := appWith(t, new(fakeEngine), func(m *vramman.ModelSpec) { m.Launch.LoRA = []server.LoRA{{Name: "sql", Path: "org/sql"}} })
	a := admissionTo(app, zapcore.NewNopCore())
	serve(t, a, audio(t, "sql", 100, true), func(_ http.ResponseWriter, r *http.Request) error {
		form, err := r.MultipartReader()
		if err != nil {
			return err
		}
		p, err := form.NextPart()
		if err != nil {
			return err
		}
		if b, err := io.ReadAll(p); err != nil || p.FormName() != "model" || string(b) != "sql" {
			t.Errorf("%s is %q, %v", p.FormName(), b, err)
		}
		return nil
	})
}
