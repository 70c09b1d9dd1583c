//go:build linux

// This file owns the programs that the tests start: this test binary again, in
// another role.

package process

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// roleVar chooses the role.
const roleVar = "PROCESS_TEST_ROLE"

// serverRole is the environment of a server. Programs built with the race
// detector wait for a second before they end, unless they are told not to.
var serverRole = []string{roleVar + "=server", "GORACE=atexit_sleep_ms=0"}

func TestMain(m *testing.M) {
	switch os.Getenv(roleVar) {
	case "server":
		serve()
	case "gateway":
		beGateway()
	default:
		os.Exit(m.Run())
	}
}

// serve is a server that does as its flags say.
func serve() {
	port := flag.Int("port", 0, "listen on this port, unless 0")
	hold := flag.String("hold", "", "hold this named pipe open for writing for life")
	deaf := flag.Bool("deaf", false, "do not end on SIGTERM")
	text := flag.String("print", "", "print this first, with C escapes")
	env := flag.Bool("env", false, "print the environment and end")
	code := flag.Int("exit", -1, "end with this status")
	child := flag.String("child", "", "start a server with these flags, separated by commas")
	daemon := flag.Bool("daemon", false, "start it in a session of its own, by a parent that ends at once")
	starter := flag.Bool("starter", false, "end as soon as the child runs")
	flag.Parse()

	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	if *text != "" {
		s := strings.NewReplacer(`\n`, "\n", `\r`, "\r").Replace(*text)
		os.Stdout.WriteString(s)
		fmt.Fprintln(os.Stderr, "on stderr")
	}
	if *env {
		for _, kv := range os.Environ() {
			fmt.Println("env", kv)
		}
		os.Exit(0)
	}
	if *code >= 0 {
		os.Exit(*code)
	}
	if *hold != "" {
		f, err := os.OpenFile(*hold, os.O_WRONLY, 0)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		defer f.Close()
	}
	if *child != "" {
		args := strings.Split(*child, ",")
		if *daemon { // somebody in between
			args = []string{"-child", *child, "-starter"}
		}
		cmd := exec.Command(os.Args[0], args...)
		cmd.Stdout = os.Stdout
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: *starter}
		if err := cmd.Start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if *daemon {
			_ = cmd.Wait()
		}
		if *starter {
			os.Exit(0)
		}
	}
	if *port != 0 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", *port))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		defer ln.Close()
	}
	fmt.Println("ready", os.Getpid())
	for range terminated {
		fmt.Println("terminated")
		if !*deaf {
			os.Exit(7)
		}
	}
}

// beGateway starts one server with the arguments it is given, repeats the
// server's lines and stays until it is killed.
func beGateway() {
	e, err := Spec{Command: []string{os.Args[0]}, Env: serverRole}.Open(context.Background(), zap.NewNop())
	if err == nil {
		_, err = e.Start(context.Background(), &engine.Launch{
			ID:     "under-gateway",
			Args:   func(engine.Listen) []string { return os.Args[1:] },
			Output: func(line string) { fmt.Println(line) },
		})
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	select {}
}
