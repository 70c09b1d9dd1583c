// The server's life: load, listen, serve, shut down.

package vllmsim

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vllm-gateway/vllm-gateway/internal/simcard"
)

// Server is one stand-in. It runs once.
type Server struct {
	cfg     Config
	log     *logger
	metrics metrics
	slots   slots
	cards   *cards
	loaded  loaded
	kvInUse atomic.Int64 // tokens in the KV cache

	// Found out at the start.
	fault       StartFault // how the start is to fail, or empty
	ownModelLen int        // tokens: the longest context that the model is made for
	fromFolder  bool       // it is what a model's folder says
	devices     []device   // what the server has on each card; at least one

	sleep sleepState

	arrivals atomic.Int64 // inference requests so far
	requests inFlight     // inference requests now

	// life is what inference requests live in: it ends with errAborted when a
	// shutdown gives them up, and with errDied when the server dies.
	life    context.Context
	endLife context.CancelCauseFunc

	listen func(network, address string) (net.Listener, error)
	ready  chan struct{}
	addr   net.Addr // set before ready is closed
	died   chan struct{}
	dying  sync.Once
}

var (
	errAborted = errors.New("aborted by the server's shutdown")
	errDied    = errors.New("the server has died")
)

// New makes a server that prints its log on stdout and stderr.
func New(cfg Config, stdout, stderr io.Writer) *Server {
	s := &Server{
		cfg:    cfg,
		log:    &logger{stdout: stdout, stderr: stderr},
		slots:  slots{free: cfg.MaxNumSeqs},
		listen: net.Listen,
		ready:  make(chan struct{}),
		died:   make(chan struct{}),
	}
	s.sleep.turn = make(chan struct{}, 1)
	s.metrics = newMetrics()
	s.life, s.endLife = context.WithCancelCause(context.Background())
	return s
}

// Ready is closed when the server accepts connections.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is where the server accepts connections, once it is ready.
func (s *Server) Addr() net.Addr { return s.addr }

// Run starts the model, serves until ctx ends and shuts down, as a process's main
// function would. It returns the exit status: 0 after a shutdown, 1 after a
// failure. All memory is free when it returns.
func (s *Server) Run(ctx context.Context) (status int) {
	defer s.endLife(errDied)
	held, err := openCards(&s.cfg, s.log)
	if err != nil {
		return s.failStart(err)
	}
	s.cards = held
	defer func() {
		if err := held.close(); err != nil {
			s.log.engineError("simcard", "%v", err)
			status = 1
		}
	}()
	if s.fault, err = s.cfg.Faults.start(); err != nil {
		return s.failStart(err)
	}
	if s.loaded, err = s.load(ctx); err != nil {
		if ctx.Err() != nil {
			s.log.api("launcher.py", "[shutdown] Interrupted while starting.")
			return s.release()
		}
		return s.failStart(err)
	}
	// Said before the first connection is taken: whoever sees the server ready
	// may start another one on its cards.
	if err := s.cards.enter(simcard.Serving); err != nil {
		return s.failStart(err)
	}
	return s.serve(ctx)
}

// failStart prints why the server cannot start.
func (s *Server) failStart(err error) int {
	where := "core.py"
	if start := (*startError)(nil); errors.As(err, &start) {
		where = start.where
	}
	s.log.engineError("core.py", "EngineCore failed to start.")
	s.log.engineError(where, "%v", err)
	s.log.raw("RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}")
	return 1
}

// serve takes connections until ctx ends or the server dies.
func (s *Server) serve(ctx context.Context) int {
	listener, err := s.listen(s.cfg.listenAddress())
	if err != nil {
		s.log.raw("OSError: %v", err)
		return 1
	}
	s.addr = listener.Addr()
	s.log.api("api_server.py", "Starting vLLM API server 0 on http://%s", s.addr)
	s.log.uvicorn("Started server process [%d]", os.Getpid())
	s.log.uvicorn("Waiting for application startup.")
	server := s.httpServer()
	failed := make(chan error, 1)
	var serving sync.WaitGroup
	serving.Go(func() { failed <- server.Serve(listener) })
	defer serving.Wait()
	s.log.uvicorn("Application startup complete.")
	close(s.ready)

	select {
	case <-ctx.Done():
		return s.shutDown(server)
	case <-s.died:
	case err := <-failed:
		s.log.raw("OSError: %v", err)
	}
	return s.crash(server)
}

// crash ends everything at once, as the end of a process does.
func (s *Server) crash(server *http.Server) int {
	s.endLife(errDied)
	idle := s.requests.close()
	_ = server.Close() // what it says changes nothing any more
	<-idle
	return 1
}

// httpServer is uvicorn's counterpart.
func (s *Server) httpServer() *http.Server {
	server := &http.Server{Handler: s.routes(), IdleTimeout: s.cfg.KeepAlive}
	if s.cfg.KeepAlive == 0 {
		server.SetKeepAlivesEnabled(false)
	}
	return server
}

// Times within a shutdown that vLLM does not let one choose.
const (
	// abortGrace is how long clients have to take the ends of aborted answers.
	abortGrace = time.Second
	// closeGrace is how long connections have to come to rest after that.
	closeGrace = 200 * time.Millisecond
)

// shutDown ends a server that was asked to end.
func (s *Server) shutDown(server *http.Server) int {
	idle := s.requests.close()
	if s.cfg.ShutdownTimeout > 0 {
		s.log.api("launcher.py", "[shutdown] Draining %d requests, timeout=%ds", s.requests.count(), int(s.cfg.ShutdownTimeout.Seconds()))
		s.await(idle, s.cfg.ShutdownTimeout)
	}
	if n := s.requests.count(); n > 0 {
		s.log.api("launcher.py", "[shutdown] Aborting %d requests", n)
	}
	s.endLife(errAborted)
	s.await(idle, abortGrace)
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		_ = server.Close()
	}
	<-idle
	select {
	case <-s.died:
		return s.crash(server)
	default:
		return s.release()
	}
}

// worker prints a line of the process on card i.
func (s *Server) worker(i int, where, format string, args ...any) {
	s.log.worker(i, len(s.devices), where, format, args...)
}

// await returns when the channel is closed, the server dies, or time is up.
func (s *Server) await(idle <-chan struct{}, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-idle:
	case <-s.died:
	case <-timer.C:
	}
}

// release frees the cards' memory, which takes its time.
func (s *Server) release() int {
	if err := s.cards.enter(simcard.Stopping); err != nil {
		s.log.engineError("simcard", "%v", err)
		return 1
	}
	if err := pause(context.Background(), s.cfg.StopTime); err != nil {
		return 1
	}
	s.log.api("launcher.py", "[shutdown] Complete.")
	return 0
}

// die ends the server as a crash of its engine would: nothing is answered any
// more, and the process exits with status 1.
func (s *Server) die(why string) {
	s.dying.Do(func() {
		s.log.engineError("core.py", "EngineCore encountered a fatal error. (%s)", why)
		s.endLife(errDied)
		close(s.died)
	})
}

// inFlight counts requests and tells when the last one has ended.
type inFlight struct {
	mu     sync.Mutex
	n      int
	closed bool
	idle   chan struct{} // made by close
}

// enter counts a request, or tells that none is taken any more.
func (f *inFlight) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.n++
	return true
}

func (f *inFlight) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n--
	if f.closed && f.n == 0 {
		close(f.idle)
	}
}

// close takes no more requests and returns a channel that is closed once all have
// ended.
func (f *inFlight) close() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		f.idle = make(chan struct{})
		if f.n == 0 {
			close(f.idle)
		}
	}
	return f.idle
}

func (f *inFlight) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}
