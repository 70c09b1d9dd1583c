// This file owns the simulated engine: the process engine running this
// program's own stand-in server.

package process

import (
	"fmt"
	"os"
	"runtime"
)

// simulator is the subcommand of this program that stands in for vLLM.
const simulator = "vllm-sim"

// Simulated is the spec of the engine that runs this program's own vllm-sim
// subcommand, with env as further environment. It fails only where the
// operating system does not tell which program this is.
func Simulated(env []string) (Spec, error) {
	// On Linux the link names the program that runs even after its file was
	// replaced, as an upgrade does.
	program := self
	if runtime.GOOS != "linux" {
		var err error
		if program, err = os.Executable(); err != nil {
			return Spec{}, fmt.Errorf("simulated engine: finding this program: %w", err)
		}
	}
	return Spec{Command: []string{program, simulator}, Env: env, Simulated: true}, nil
}

// self is this very program, on Linux.
const self = "/proc/self/exe"
