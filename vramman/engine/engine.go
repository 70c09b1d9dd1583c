// Package engine defines what starts and stops servers.
//
// An engine knows nothing of models, VRAM or decisions: it is handed a [Launch]
// and gives back a [Running]. The interface assumes neither that the instance
// runs on this host nor that it keeps an address: a caller reaches it only
// through [Running.Dial].
package engine

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"go.uber.org/zap"
)

// Spec is an engine's configuration: inert until opened.
type Spec interface {
	// Key is equal for two specs exactly when an engine opened from one serves
	// the other too. It holds no secret.
	Key() string
	// Open makes the engine ready for use. It may do I/O and is called by a worker.
	Open(ctx context.Context, log *zap.Logger) (Engine, error)
}

// Engine starts servers and finds again what it started. All methods may be
// called by several goroutines at once.
type Engine interface {
	// Reconcile ends what an earlier gateway process of the same name left
	// behind, and returns how many instances it removed. No start is decided
	// before it has returned without an error.
	Reconcile(ctx context.Context) (removed int, err error)
	// Fetch brings what the launch needs (image, weights) onto the machine,
	// without a GPU. It is called before anything is evicted, may be called
	// again, and returns at once when nothing is missing.
	Fetch(ctx context.Context, l *Launch) error
	// Start runs the server and returns as soon as it exists, not when it is
	// ready. ctx covers the start alone: the instance outlives it.
	Start(ctx context.Context, l *Launch) (Running, error)
	// Close ends the engine and whatever of its instances must not outlive it.
	Close(ctx context.Context) error
}

// Cacher is an [Engine] whose servers keep what they download from the Hugging
// Face hub in a folder that the gateway can read.
type Cacher interface {
	// Cache is that folder as the gateway sees it, or empty.
	Cache() string
	// Hub is the environment by which the launch's server reaches the hub (HF_TOKEN,
	// HF_ENDPOINT, HF_HUB_OFFLINE and all else that it is given), as KEY=VALUE.
	// It carries secrets.
	Hub(l *Launch) []string
}

// Lister is an [Engine] that can be asked what runs, whatever events told.
type Lister interface {
	// List names the instances of this gateway, and of this process of it, that
	// run now.
	List(ctx context.Context) ([]string, error)
	// Discard ends and removes an instance that List named and nobody knows.
	Discard(ctx context.Context, id string) error
}

// Imager is a [Spec] of an engine that runs images.
type Imager interface {
	// ImageName is the image of every launch that names none.
	ImageName() string
}

// Keeper is an [Engine] whose servers may live on when the gateway ends.
type Keeper interface {
	// Outlives says whether they do: then the end of the gateway stops none,
	// and [Engine.Close] only lets go of them.
	Outlives() bool
}

// Listen is where a server must accept connections, as seen from inside its
// own machine or container.
type Listen struct {
	Host string
	Port int
}

// Launch is everything an engine needs to run one server.
type Launch struct {
	Gateway string // the gateway's name
	Model   string // the model's name
	ID      string // the instance's name, unique within the gateway: "gemma3-4b-1"
	Hash    string // the launch hash: equal hashes mean interchangeable instances

	// Args makes the server's arguments (not the program itself) for the
	// address that the engine chose.
	Args func(Listen) []string
	// Env holds the server's environment as KEY=VALUE. It carries secrets and
	// is never logged.
	Env []string
	// GPUs are the UUIDs of the cards the instance may see, in order.
	GPUs []string
	// Charge is the VRAM reserved on each of its GPUs, in bytes.
	Charge int64
	// StopGrace is how long the server is given to end by itself when somebody
	// other than the gateway has it stopped.
	StopGrace time.Duration
	// Image is the container image, for engines that run images; empty means
	// the engine's own.
	Image string
	// Mounts are further folders of the host, for engines that run images.
	Mounts []Mount
	// FetchCommand is the program and the arguments that bring the weights
	// into the cache, run in the image without a GPU; empty: nothing to fetch.
	FetchCommand []string

	// Output receives each line that the server prints, without its line end.
	// It is called by one goroutine at a time and does not block.
	Output func(line string)
	// Progress receives how far a fetch or a start has come, in words: "pulling
	// the image, 34 %". It is called like Output.
	Progress func(stage string)
}

// Explained is an error that says in a sentence what it means and what to do,
// fit for an operator's eyes: no secret, and nothing that the other side sent.
type Explained interface {
	error
	Explanation() string
}

// Explanation is the sentence of the first error in err's chain that has one, or
// empty.
func Explanation(err error) string {
	if e, ok := errors.AsType[Explained](err); ok {
		return e.Explanation()
	}
	return ""
}

// Mount shows a folder of the host to a server that has a file system of its own.
type Mount struct {
	Source   string // on the host
	Target   string // where the server sees it
	ReadOnly bool
}

// Exit says how an instance ended.
type Exit struct {
	Code   int    // the process's exit status; -1 when a signal ended it
	Signal string // "killed", "terminated", …; empty when it exited by itself
	OOM    bool   // the host ran out of memory for it
}

// String implements [fmt.Stringer].
func (e Exit) String() string {
	switch {
	case e.OOM:
		return "the host ran out of memory"
	case e.Signal != "":
		return "signal: " + e.Signal
	}
	return "exit status " + strconv.Itoa(e.Code)
}

// Running is one instance that an engine started.
type Running interface {
	// Dial opens a connection to the server. It fails at once with a refused
	// connection while the server does not listen.
	Dial(ctx context.Context) (net.Conn, error)
	// PIDs are the host's process numbers of all the instance's processes,
	// by which a card's memory is attributed to it.
	PIDs(ctx context.Context) ([]int, error)
	// Stop asks the server to end, kills it once grace has passed, and returns
	// when it is gone. Stopping what has ended is no error.
	Stop(ctx context.Context, grace time.Duration) error
	// Done is closed when the instance has ended, for whatever reason.
	Done() <-chan struct{}
	// Exit says how the instance ended; it is valid once Done is closed.
	Exit() Exit
}
