// Command probe is the server of the engine's tests, and their fetch program.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

func main() {
	port := flag.Int("port", 0, "serve on this port, unless 0")
	deaf := flag.Bool("deaf", false, "ignore SIGTERM")
	text := flag.String("print", "", "print this")
	errs := flag.String("errors", "", "print this on stderr")
	env := flag.Bool("env", false, "print the environment")
	leave := flag.String("leave", "", "add a byte to this file of the cache")
	fill := flag.String("fill", "", "write to this file of the cache until that fails")
	code := flag.Int("exit", -1, "end with this status")
	hang := flag.Bool("hang", false, "do nothing until killed")
	child := flag.Bool("child", false, "start a process that hangs")
	flag.Parse()

	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	fmt.Print(*text)
	fmt.Fprint(os.Stderr, *errs)
	if *env {
		for _, kv := range os.Environ() {
			fmt.Println("env", kv)
		}
	}
	if *leave != "" {
		f, err := os.OpenFile(filepath.Join(os.Getenv("HF_HOME"), *leave), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = f.Write([]byte{'x'})
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	if *fill != "" {
		f, err := os.Create(filepath.Join(os.Getenv("HF_HOME"), *fill))
		for block := make([]byte, 64<<10); err == nil; {
			_, err = f.Write(block)
		}
		fmt.Println(err)
		os.Exit(1)
	}
	if *code >= 0 {
		os.Exit(*code)
	}
	if *child {
		if _, err := os.StartProcess("/proc/self/exe", []string{"probe", "-hang", "-deaf"}, &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	if *port != 0 {
		http.HandleFunc("/dial", dial)
		http.HandleFunc("/eat", eat)
		http.HandleFunc("/exit", func(_ http.ResponseWriter, r *http.Request) {
			status, _ := strconv.Atoi(r.FormValue("status"))
			os.Exit(status)
		})
		ln, err := net.Listen("tcp", ":"+strconv.Itoa(*port))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		go http.Serve(ln, nil)
	}
	if *port != 0 || *hang {
		fmt.Println("ready")
		for range terminated {
			fmt.Println("terminated")
			if !*deaf {
				os.Exit(7)
			}
		}
	}
}

// dial tells whether a TCP connection can be made.
func dial(w http.ResponseWriter, r *http.Request) {
	c, err := net.DialTimeout("tcp", r.FormValue("address"), 500*time.Millisecond)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	c.Close()
	io.WriteString(w, "connected")
}

// eat takes memory and uses all of it.
func eat(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.FormValue("bytes"))
	b := make([]byte, n)
	for i := 0; i < n; i += 1024 {
		b[i] = 1
	}
	fmt.Fprint(w, len(b))
}
