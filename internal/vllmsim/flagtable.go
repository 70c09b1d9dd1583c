// The flags that vLLM's serve command knows (vllm/engine/arg_utils.py,
// vllm/entrypoints/openai/cli_args.py). The stand-in accepts them all and heeds
// those that config.go reads.

package vllmsim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// flagKind is how many values a flag takes.
type flagKind int

const (
	valueFlag  flagKind = iota // one
	switchFlag                 // none; "--no-…" turns it off
	listFlag                   // one or more
	jsonFlag                   // one, or parts of it as "--flag.key value"
)

var shortFlags = map[string]string{
	"-h": "help", "-v": "version",
	"-q": "quantization", "-n": "nnodes", "-r": "node-rank", "-asc": "api-server-count",
	"-tp": "tensor-parallel-size", "-pp": "pipeline-parallel-size", "-dcp": "decode-context-parallel-size",
	"-dp": "data-parallel-size", "-dpn": "data-parallel-rank", "-dpr": "data-parallel-start-rank",
	"-dpl": "data-parallel-size-local", "-dpa": "data-parallel-address", "-dpp": "data-parallel-rpc-port",
	"-dpb": "data-parallel-backend", "-ep": "enable-expert-parallel",
	"-cc": "compilation-config", "-ac": "attention-config", "-sc": "speculative-config", "-O": "optimization-level",
}

// flagTable is made from one list for each kind, so that each list reads like
// vLLM's own help.
var flagTable = func() map[string]flagKind {
	table := make(map[string]flagKind)
	for kind, names := range map[flagKind]string{
		switchFlag: switchNames, valueFlag: valueNames, listFlag: listNames, jsonFlag: jsonNames,
	} {
		for name := range strings.FieldsSeq(names) {
			table[name] = kind
		}
	}
	return table
}()

const switchNames = `
	help version headless
	allow-credentials allow-deprecated-quantization async-scheduling calculate-kv-scales
	data-parallel-external-lb data-parallel-hybrid-lb
	disable-access-log-for-health disable-cascade-attn disable-chunked-mm-input disable-custom-all-reduce
	disable-fastapi-docs disable-frontend-multiprocessing disable-hybrid-kv-cache-manager disable-log-stats
	disable-nccl-for-dp-synchronization disable-sliding-window disable-uvicorn-access-log
	enable-auto-tool-choice enable-chunked-prefill enable-dbo enable-eplb enable-expert-parallel
	enable-force-include-usage enable-layerwise-nvtx-tracing enable-log-deltas enable-log-outputs
	enable-log-requests enable-lora enable-lora-bias enable-mfu-metrics enable-mm-embeds
	enable-offline-docs enable-prefix-caching enable-prompt-embeds enable-prompt-tokens-details
	enable-request-id-headers enable-return-routed-experts enable-server-load-tracking enable-sleep-mode
	enable-ssl-refresh enable-tokenizer-info-endpoint enforce-eager exclude-tools-when-tool-choice-none
	fully-sharded-loras interleave-mm-strings kv-cache-metrics kv-sharing-fast-prefill
	language-model-only log-error-stack
	ray-workers-use-nsight return-tokens-as-token-ids scheduler-reserve-full-isl
	skip-mm-profiling skip-tokenizer-init specialize-active-lora tokens-only trust-request-chat-template
	trust-remote-code use-tqdm-on-load`

const valueNames = `
	model host port uds uvicorn-log-level root-path api-server-count config grpc
	chat-template chat-template-content-format default-mm-loras h11-max-header-count
	h11-max-incomplete-event-size log-config-file max-log-len response-role
	tool-call-parser tool-parser-plugin tool-server
	ssl-ca-certs ssl-cert-reqs ssl-certfile ssl-ciphers ssl-keyfile
	runner convert task tokenizer tokenizer-mode tokenizer-revision dtype seed hf-config-path
	hf-token revision code-revision config-format generation-config max-model-len
	max-logprobs logprobs-mode max-seq-len-to-capture model-impl logits-processor-pattern io-processor-plugin
	override-attention-dtype quantization renderer-num-workers rope-scaling rope-theta
	allowed-local-media-path
	load-format download-dir safetensors-load-strategy ignore-patterns pt-load-map-location
	reasoning-parser reasoning-parser-plugin guided-decoding-backend
	distributed-executor-backend pipeline-parallel-size master-addr master-port nnodes node-rank
	tensor-parallel-size decode-context-parallel-size prefill-context-parallel-size
	dcp-kv-cache-interleave-size cp-kv-cache-interleave-size
	data-parallel-size data-parallel-rank data-parallel-start-rank data-parallel-size-local
	data-parallel-address data-parallel-rpc-port data-parallel-backend
	all2all-backend dbo-decode-token-threshold dbo-prefill-token-threshold ubatch-size
	expert-placement-strategy moe-backend max-parallel-loading-workers worker-cls worker-extension-cls
	block-size gpu-memory-utilization kv-cache-memory-bytes swap-space kv-cache-dtype
	num-gpu-blocks-override prefix-caching-hash-algo cpu-offload-gb cpu-offload-params
	mamba-cache-dtype mamba-ssm-cache-dtype mamba-block-size mamba-cache-mode
	kv-offloading-size kv-offloading-backend offload-backend
	mm-processor-cache-gb mm-processor-cache-type mm-shm-cache-max-object-size-mb
	mm-encoder-only mm-encoder-tp-mode mm-encoder-attn-backend video-pruning-rate
	max-loras max-lora-rank lora-dtype lora-extra-vocab-size max-cpu-loras
	otlp-traces-endpoint collect-detailed-traces show-hidden-metrics-for-version
	kv-cache-metrics-sample
	max-num-batched-tokens max-num-seqs max-num-partial-prefills max-long-partial-prefills
	long-prefill-token-threshold scheduling-policy scheduler-cls stream-interval
	max-num-queued-reqs max-num-queued-tokens num-lookahead-slots
	attention-backend optimization-level performance-mode max-cudagraph-capture-size
	shutdown-timeout fail-on-environ-validation`

const listNames = `
	served-model-name api-key lora-modules allowed-media-domains allowed-origins allowed-methods allowed-headers
	middleware logits-processors cudagraph-capture-sizes`

const jsonNames = `
	additional-config attention-config compilation-config default-chat-template-kwargs ec-transfer-config
	eplb-config hf-overrides kernel-config kv-events-config kv-transfer-config limit-mm-per-prompt
	mm-processor-kwargs model-loader-extra-config override-generation-config pooler-config
	profiler-config reasoning-config speculative-config structured-outputs-config weight-transfer-config`

// helpText lists the flags.
func helpText() string {
	var b strings.Builder
	b.WriteString("usage: vllm serve [model_tag] [options]\n\n" +
		"A stand-in for vLLM " + Version + " without a model. It takes these of vLLM's options:\n\n")
	for _, name := range slices.Sorted(maps.Keys(flagTable)) {
		suffix := map[flagKind]string{valueFlag: " VALUE", listFlag: " VALUE [VALUE …]", jsonFlag: " JSON"}[flagTable[name]]
		fmt.Fprintf(&b, "  --%s%s\n", name, suffix)
	}
	return b.String()
}
