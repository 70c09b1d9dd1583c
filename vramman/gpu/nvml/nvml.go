// Package nvml is the inventory of NVIDIA's cards as the driver's own library
// tells it: NVML, libnvidia-ml.so.1. Slices of cards (MIG) are cards of their own.
//
// The library comes with the driver. Where there is neither, a reading fails and
// says so, and the next one looks again: drivers are installed, die and come back
// while a gateway runs.
//
// It takes Linux, cgo and the build tag nvml, and a linker that binds lazily
// (-ldflags=-extldflags=-Wl,-z,lazy). The tag is asked for because a program that
// has go-nvml in it and binds all functions when it starts, as some systems'
// compilers make them, ends at once where there is no driver. Built without, the
// same Spec opens the inventory of the command nvidia-smi, and warns.
package nvml

// Spec describes the library to use.
type Spec struct {
	// Library is the library's file, or its name among the system's libraries.
	// Empty means libnvidia-ml.so.1. The first that a process has loaded stays:
	// another takes a new process.
	Library string
}

// Key implements gpu.Spec.
func (s *Spec) Key() string { return "nvml:" + s.Library }
