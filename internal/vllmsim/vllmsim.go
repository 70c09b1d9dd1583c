// Package vllmsim is a stand-in for a vLLM server: it behaves like one wherever a
// gateway can tell, without a model and without a GPU.
//
// It takes vLLM's own flags (see [ParseConfig]), refuses connections until it has
// loaded, prints vLLM's log lines while it does, takes memory on simulated cards
// (package simcard) by vLLM's arithmetic, answers chat, completions and
// embeddings, streamed or not, with deterministic text at a set pace, runs at most
// --max-num-seqs requests at a time, counts in vLLM's metrics, sleeps and wakes up
// with --enable-sleep-mode, and drains or aborts on SIGTERM. Facts about vLLM are
// from its own source, at the files named beside them.
//
// If the model is a folder with the config.json of a plain transformer, its longest
// context, the size of its weights and what a token takes are what the folder says.
//
// Its environment, beside vLLM's own VLLM_API_KEY, VLLM_HTTP_TIMEOUT_KEEP_ALIVE
// (seconds that an idle connection stays open; 5 unless set), VLLM_SERVER_DEV_MODE
// (without which there are no routes for sleeping) and CUDA_VISIBLE_DEVICES (or
// NVIDIA_VISIBLE_DEVICES): the UUIDs, or places in the folder, of its cards:
//
//	variable                      default     meaning
//	VLLM_SIM_CARDS                            folder of the simulated cards; without it, none are used
//	VLLM_SIM_CONTEXT              512 MiB     bytes on each card outside of --gpu-memory-utilization
//	VLLM_SIM_WEIGHTS              half        bytes of weights on each card; else the model's, or half of what is requested
//	VLLM_SIM_KV_BYTES_PER_TOKEN   8192        bytes of KV cache that a token takes on each card; else the model's, or 8192
//	VLLM_SIM_ACTIVATION           0           bytes on each card while it profiles, and from its warm-up on; part of
//	                                          what is requested
//	VLLM_SIM_GRAPHS               0           bytes of CUDA graphs on each card, beyond what is requested; none if eager
//	VLLM_SIM_PEAK                 0           bytes more on each card from the first request on
//	VLLM_SIM_LOAD_TIME            1s          time from the start until it is ready
//	VLLM_SIM_STOP_TIME            0s          time from the end of the last request until memory is free
//	VLLM_SIM_SLEEP_TIME           100ms       time to fall asleep, once no request runs
//	VLLM_SIM_WAKE_TIME            100ms       time to wake up
//	VLLM_SIM_SLEEP_RESIDUAL       context     bytes that it keeps on each card asleep; else its context and 640 MiB
//	VLLM_SIM_TTFT                 20ms        time from a request's turn to its first token
//	VLLM_SIM_HOLD                             a file: while it exists, no request gets its first token
//	VLLM_SIM_TOKENS_PER_SECOND    200         pace of each sequence after that; 0 is no limit
//	VLLM_SIM_REPLY_TOKENS         0           length of replies; 0 echoes the prompt's last message
//	VLLM_SIM_EMBEDDING_SIZE       64          length of embeddings
//	VLLM_SIM_FAIL                             fail to start, as: memory_free, memory_profiling, no_kv_blocks,
//	                                          max_seq_len, load_oom, sampler_oom or auto_fit
//	VLLM_SIM_FAIL_COUNT           1           with the next: only so many starts fail, all together
//	VLLM_SIM_FAIL_STATE                       a file that counts them, a byte for each start; else every start fails
//	VLLM_SIM_FAIL_SLEEP                       asked to sleep: error (status 500), hang, die, or keep (sleep, but free little)
//	VLLM_SIM_FAIL_WAKE                        asked to wake up: error (status 500), hang or die
//	VLLM_SIM_HANG_START           no          never become ready
//	VLLM_SIM_DIE_AFTER                        serve N inference requests and die at the arrival of the next
//	VLLM_SIM_DIE_MID_STREAM                   die once N tokens of any one stream have been sent
//	VLLM_SIM_HANG_AFTER                       serve N inference requests and never answer the later ones;
//	                                          /health stays 200
//	VLLM_SIM_503                  0           answer the first N inference requests with 503
//	VLLM_SIM_IGNORE_TERM          no          ignore SIGTERM and SIGINT
//
// Times are Go durations, sizes are bytes, switches are 1 or 0.
//
// A reply is "You said:" and the words of the prompt's last message. It ends there
// (finish_reason "stop"), or at max_tokens (finish_reason "length"); with
// ignore_eos, min_tokens or VLLM_SIM_REPLY_TOKENS it goes on with numbered words.
// A token is a word.
package vllmsim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Version is the version of vLLM that the stand-in claims to be.
const Version = "0.30.0"

// Main runs a server as a program would: args are the arguments after the
// program's name, env looks up the environment. It returns the exit status: 0
// after a stop that was asked for, 1 after a failure, 2 for arguments that are not
// understood. The first SIGTERM or SIGINT shuts the server down; a second one has
// its usual effect, as it has on a program that does not handle signals.
func Main(args []string, stdout, stderr io.Writer, env func(string) string) int {
	cfg, err := ParseConfig(args, env)
	switch usage := (*UsageError)(nil); {
	case errors.Is(err, errHelp):
		fmt.Fprint(stdout, helpText())
		return 0
	case errors.Is(err, errVersion):
		fmt.Fprintln(stdout, Version)
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "usage: vllm serve [model_tag] [options]\nvllm: error: %v\n", usage)
		return 2
	case err != nil:
		fmt.Fprintln(stderr, err)
		return 1
	}
	server := New(cfg, stdout, stderr)
	signals := []os.Signal{syscall.SIGTERM, os.Interrupt}
	if cfg.Faults.IgnoreTerm {
		signal.Ignore(signals...)
		return server.Run(context.Background())
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	context.AfterFunc(ctx, stop)
	return server.Run(ctx)
}
