//go:build !linux

package host

import (
	"errors"
	"fmt"
	"runtime"
)

// errElsewhere is all that is known on other systems.
var errElsewhere = fmt.Errorf("the host's memory is not read on %s: %w", runtime.GOOS, errors.ErrUnsupported)

// Read fails: the memory is read on Linux only.
func Read() (Memory, error) { return Memory{}, errElsewhere }

// ReadMachine fails: the memory is read on Linux only.
func ReadMachine() (Memory, error) { return Memory{}, errElsewhere }
