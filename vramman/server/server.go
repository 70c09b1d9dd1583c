// Package server defines the programs that serve models, and how to talk to them.
//
// A server is stateless: it turns a model and its place into a command line and
// an environment, knows when the program is ready, and reads its log lines.
package server

import (
	"context"
	"net/http"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
)

// Model is what a server needs to know of a model to launch it.
type Model struct {
	Name           string         // the served model name
	Repo           string         // the Hugging Face repository or a local path
	File           string         // of a GGUF repository: the file, or the quantization ("Q4_K_M"); empty: not GGUF
	TensorParallel int            // number of GPUs, at least 1
	MaxModelLen    int            // tokens; 0 leaves it to the server
	MaxNumSeqs     int            // sequences; 0 leaves it to the server
	ReservedSeqs   int            // sequences of MaxModelLen that the KV cache holds at once; 0: not said
	Sleep          bool           // started so that it can be put to sleep
	DType          string         // "auto", "bfloat16", …; empty leaves it to the server
	Quantization   string         // "awq", "fp8", …; empty leaves it to the server
	EnforceEager   bool           // no CUDA graphs
	Image          string         // the container image; empty: the engine's own
	Mounts         []engine.Mount // further folders of the host, for containers
	LoRA           []LoRA         `json:",omitempty"` // adapters that it serves beside the model itself
	Args           []string       // further arguments, as the user wrote them
	Env            []string       // further environment, KEY=VALUE, secrets resolved
}

// LoRA is an adapter that a model's server serves under a name of its own.
type LoRA struct {
	Name string // the served name
	Path string // a Hugging Face repository, or a folder where the server runs
}

// Place is where one instance of a model goes.
type Place struct {
	// Charge is the VRAM reserved on each GPU, in bytes, everything included.
	Charge int64
	// CardTotal is the size of the smallest of its cards, in bytes.
	CardTotal int64
	// Free is the least that was free on one of its cards when the room was
	// reserved, in bytes; 0: not known.
	Free int64
	// Context is how much of the charge the server does not count itself (the
	// CUDA context), in bytes; 0: not known.
	Context int64
	// KVBytes is the KV cache that the server is to make on each GPU, in bytes;
	// 0: what is left of the charge.
	KVBytes int64
	// Key is the secret that requests to the instance must bear.
	Key string
	// Cache is the Hugging Face cache folder that the instance uses, as the
	// gateway sees it; empty: not known.
	Cache string
	// StartTimeout is how long the gateway waits for the server to be ready.
	StartTimeout time.Duration
	// StopGrace is how long the engine waits between asking and killing.
	StopGrace time.Duration
}

// Server launches and understands one kind of program.
type Server interface {
	// Key is equal for two servers exactly when they launch the same way.
	Key() string
	// Args makes the arguments for one instance. Like Env, it may read the
	// cache, and is called by a worker.
	Args(Model, Place, engine.Listen) []string
	// FetchCommand is the program and the arguments that bring a model's weights
	// into the cache, run where the server would run; nil: nothing to fetch.
	FetchCommand(Model) []string
	// Env makes the environment for one instance, without the model's own.
	Env(Model, Place) []string
	// Managed names the flag among args that the gateway sets itself and a user
	// must not, or is empty. Spelling variants ("_" for "-", "--a=b",
	// abbreviations) are seen through.
	Managed(args []string) string
	// ReadyRequest is the request whose 200 means that the server is ready.
	ReadyRequest() *http.Request
	// Line reads one line of the server's output.
	Line(string) Line
	// KeepAlive is how long the launched server keeps an idle connection open.
	KeepAlive() time.Duration
}

// Card is a kind of card, as far as a footprint depends on it.
type Card struct {
	Name  string // "NVIDIA H200"
	Total int64  // bytes
}

// Setting is where a model could run.
type Setting struct {
	Card   Card
	Degree int // on how many such cards at once
}

// Files is where a model's files may be read.
type Files struct {
	Cache string          // the Hugging Face cache folder as the gateway sees it; empty: none
	Env   []string        // the server's environment, with the token and the address of the hub; nil: the hub is not asked
	Keep  footprint.Cache // keeps what was read from the hub; nil: nothing is kept
	Image string          // what the server runs from: measurements count for it alone
}

// Sizing is what a model would take in one setting.
type Sizing struct {
	// Parts is the estimate. Where there is none, it still holds the signatures
	// under which parts are measured, the length and the reservation, as far as
	// these are known.
	footprint.Parts
	// Err is why there is no estimate; nil: there is one. It wraps
	// [footprint.ErrCannot].
	Err error
}

// Sizer is a [Server] that knows what a model takes before it has run.
type Sizer interface {
	// Size reads the model's files and estimates its footprint in each setting.
	// It does I/O, and is called by a worker.
	Size(context.Context, Model, Files, []Setting) []Sizing
}

// Sleeper is a [Server] that can be put to sleep: it keeps its weights in the
// host's memory, frees nearly all VRAM, and is back much sooner than after a
// start. A model is launched for it with [Model].Sleep.
type Sleeper interface {
	// SleepRequest puts the server to sleep; 200 comes when it sleeps.
	SleepRequest() *http.Request
	// WakeRequest wakes it; 200 comes when it serves again.
	WakeRequest() *http.Request
}

// Stage is how far a start has come, in words shown to users: "loading
// weights", "compiling", "capturing graphs", "listening".
type Stage string

// Class groups failures that call for the same treatment.
type Class string

// The classes of failure.
const (
	ClassNone    Class = ""
	ClassMemory  Class = "memory"   // too little VRAM was free when the server looked
	ClassRace    Class = "race"     // a neighbour changed the card while it was measured
	ClassKVCache Class = "kv_cache" // the KV cache does not hold one request of full length
	ClassConfig  Class = "config"   // the server refuses its configuration
	ClassTimeout Class = "timeout"  // not ready within the start timeout
	ClassExited  Class = "exited"   // the server ended while it started
	ClassDied    Class = "died"     // the server ended after it had been ready
	ClassEngine  Class = "engine"   // the engine could not start it
	ClassFetch   Class = "fetch"    // image or weights could not be brought
	ClassSleep   Class = "sleep"    // it could not be put to sleep or woken
)

// Line is what one line of a server's output tells. The zero Line tells nothing.
type Line struct {
	Stage Stage  // the stage that has begun, or empty
	Class Class  // the class of a failure, or ClassNone
	Why   string // for a failure: what went wrong and what to do, without paths or secrets
	// More is, for a failure, how many bytes more on each card would have
	// helped; 0: it does not say.
	More  int64
	Facts footprint.Facts // figures of memory; zero: it tells none
}
