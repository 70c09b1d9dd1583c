// Log lines in vLLM's form: its own logger's on standard output, those of uvicorn,
// its HTTP server, on standard error.

package vllmsim

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// logger prints lines; it may be used by several goroutines.
type logger struct {
	mu             sync.Mutex
	stdout, stderr io.Writer
}

// engine prints a line of the process that runs the model. where is the source
// file that vLLM names in it.
func (l *logger) engine(where, format string, args ...any) {
	l.vllm("EngineCore", "INFO", where, format, args...)
}

// engineError prints a failure of that process.
func (l *logger) engineError(where, format string, args ...any) {
	l.vllm("EngineCore", "ERROR", where, format, args...)
}

// worker prints a line of the process on card i of so many. On one card that is
// the process that runs the model.
func (l *logger) worker(i, cards int, where, format string, args ...any) {
	if cards == 1 {
		l.engine(where, format, args...)
		return
	}
	l.vllm(fmt.Sprintf("Worker_TP%d", i), "INFO", where, format, args...)
}

// api prints a line of the process that answers requests.
func (l *logger) api(where, format string, args ...any) {
	l.vllm("APIServer", "INFO", where, format, args...)
}

func (l *logger) vllm(process, level, where, format string, args ...any) {
	line := fmt.Sprintf("(%s pid=%d) %s %s [%s] %s\n",
		process, os.Getpid(), level, time.Now().Format("01-02 15:04:05"), where, fmt.Sprintf(format, args...))
	l.write(l.stdout, line)
}

// uvicorn prints a line of the HTTP server.
func (l *logger) uvicorn(format string, args ...any) {
	l.write(l.stderr, fmt.Sprintf("(APIServer pid=%d) INFO:     %s\n", os.Getpid(), fmt.Sprintf(format, args...)))
}

// raw prints a line as it is, as Python does with an exception that nobody caught.
func (l *logger) raw(format string, args ...any) {
	l.write(l.stderr, fmt.Sprintf("(APIServer pid=%d) %s\n", os.Getpid(), fmt.Sprintf(format, args...)))
}

func (l *logger) write(w io.Writer, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A reader that has gone must not stop the server.
	_, _ = io.WriteString(w, line)
}

// gibText is a size in GiB as vLLM prints it (format_gib): with one decimal at
// least and two at most.
func gibText(bytes int64) string {
	text := strconv.FormatFloat(float64(bytes)/gib, 'f', 2, 64)
	return strings.TrimSuffix(text, "0")
}

// torchText is a size as PyTorch prints it.
func torchText(bytes int64) string {
	switch {
	case bytes >= gib:
		return fmt.Sprintf("%.2f GiB", float64(bytes)/gib)
	case bytes >= 1<<20:
		return fmt.Sprintf("%.2f MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%.2f KiB", float64(bytes)/(1<<10))
}

// thousands groups a number's digits by commas.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
