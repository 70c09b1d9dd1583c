// This file owns which of vLLM's flags belong to the gateway.

package vllm

import (
	"slices"
	"strings"
)

// managedFlag is a flag of vLLM that a user must not set, with its short forms
// and what to use instead, as the end of a sentence.
type managedFlag struct {
	name    string // without the dashes
	short   []string
	instead string
}

// Reasons that several flags share.
const (
	byEngine   = "the gateway chooses where the server listens"
	byTP       = "set tensor_parallel and the model's pool; the gateway chooses the cards"
	byVRAM     = "set vram, or gpu_memory_utilization, of the model"
	byGateway  = "the gateway serves TLS; its servers talk plain HTTP to it alone"
	byShutdown = "the gateway finishes requests before it stops a server"
)

// managedFlags are, as of vLLM's vllm/entrypoints/openai/cli_args.py and
// vllm/engine/arg_utils.py: what the gateway sets itself from the model's
// options; what would take cards or memory that are not accounted for; and what
// would put the server where the gateway does not find it.
var managedFlags = []managedFlag{
	{"model", nil, "set repo"},
	{"served-model-name", nil, "name the model, and give it aliases"},
	{"tensor-parallel-size", []string{"tp"}, "set tensor_parallel"},
	{"max-model-len", nil, "set max_model_len"},
	{"max-num-seqs", nil, "set max_num_seqs"},
	{"dtype", nil, "set dtype"},
	{"quantization", []string{"q"}, "set quantization"},
	{"enforce-eager", nil, "set enforce_eager"},
	{"enable-sleep-mode", nil, "set sleep"},
	{"gpu-memory-utilization", nil, byVRAM},
	{"kv-cache-memory-bytes", nil, byVRAM},
	{"num-gpu-blocks-override", nil, byVRAM},
	{"shutdown-timeout", nil, byShutdown},
	{"api-key", nil, "the gateway gives each instance a key of its own, and has keys for its clients"},
	{"config", nil, "write the options out: a file would hide them from the gateway"},

	{"host", nil, byEngine},
	{"port", nil, byEngine},
	{"uds", nil, byEngine},
	{"headless", nil, byEngine},
	{"grpc", nil, byEngine},
	{"ssl-keyfile", nil, byGateway},
	{"ssl-certfile", nil, byGateway},
	{"ssl-ca-certs", nil, byGateway},
	{"ssl-cert-reqs", nil, byGateway},
	{"ssl-ciphers", nil, byGateway},
	{"enable-ssl-refresh", nil, byGateway},

	{"pipeline-parallel-size", []string{"pp"}, byTP},
	{"prefill-context-parallel-size", []string{"pcp"}, byTP},
	{"data-parallel-size", []string{"dp"}, byTP},
	{"data-parallel-size-local", []string{"dpl"}, byTP},
	{"data-parallel-rank", []string{"dpn"}, byTP},
	{"data-parallel-start-rank", []string{"dpr"}, byTP},
	{"data-parallel-address", []string{"dpa"}, byTP},
	{"data-parallel-rpc-port", []string{"dpp"}, byTP},
	{"data-parallel-backend", []string{"dpb"}, byTP},
	{"data-parallel-hybrid-lb", []string{"dph"}, byTP},
	{"data-parallel-external-lb", []string{"dpe"}, byTP},
	{"data-parallel-multi-port-external-lb", []string{"dpm"}, byTP},
	{"data-parallel-supervisor-port", nil, byTP},
	{"nnodes", []string{"n"}, byTP},
	{"node-rank", []string{"r"}, byTP},
	{"master-addr", nil, byTP},
	{"master-port", nil, byTP},
	{"device-ids", nil, byTP},
}

// Managed implements [server.Server]. It returns the flag's full name, whatever
// its spelling among args.
//
// The spellings are those of vLLM's parser (vllm/utils/argparse_utils.py on
// Python's argparse): "_" for "-", a value after "=", a key after ".", "no-" in
// front of a switch, and a beginning of the name. A beginning that fits other
// flags too is reported all the same; vLLM refuses it as ambiguous. An argument
// that looks like a flag is one to that parser wherever it stands, also where
// the flag before it expects a value, so there is nothing to except.
//
// A first argument that is no flag, or anything behind "--", would be taken for
// the model and is reported as that.
func (Server) Managed(args []string) string {
	for i, arg := range args {
		switch name, _, _ := strings.Cut(arg, "="); {
		case arg == "--", i == 0 && !strings.HasPrefix(arg, "-"):
			return "--model"
		case strings.ContainsAny(name, " \t\n"): // no flag to argparse either
		case strings.HasPrefix(name, "--"):
			if f := managedLong(name[2:]); f != "" {
				return "--" + f
			}
		case strings.HasPrefix(name, "-") && len(name) > 1:
			if f := managedShort(name[1:]); f != "" {
				return "--" + f
			}
		}
	}
	return ""
}

// Instead says what a user is to do instead of setting a managed flag, such as
// "set tensor_parallel" for "--tensor-parallel-size"; empty for other flags.
func Instead(flag string) string {
	for _, f := range managedFlags {
		if "--"+f.name == flag {
			return f.instead
		}
	}
	return ""
}

// managedLong finds the managed flag that a long name, or a beginning of one,
// means.
func managedLong(name string) string {
	name, _, _ = strings.Cut(name, ".")
	name = strings.ReplaceAll(name, "_", "-")
	for _, n := range []string{name, strings.TrimPrefix(name, "no-")} {
		if n == "" {
			continue
		}
		// The flag itself goes before one that it is a beginning of.
		if slices.ContainsFunc(managedFlags, func(f managedFlag) bool { return f.name == n }) {
			return n
		}
		for _, f := range managedFlags {
			if strings.HasPrefix(f.name, n) {
				return f.name
			}
		}
	}
	return ""
}

// managedShort finds the managed flag that a short name, or a beginning of one,
// means. To a name of one letter the value may be attached: "-qawq".
func managedShort(name string) string {
	for _, exact := range []bool{true, false} {
		for _, f := range managedFlags {
			for _, s := range f.short {
				if name == s || !exact && (strings.HasPrefix(s, name) || len(s) == 1 && strings.HasPrefix(name, s)) {
					return f.name
				}
			}
		}
	}
	return ""
}
