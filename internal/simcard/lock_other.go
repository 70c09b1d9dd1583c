//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

// Systems without POSIX record locks have no simulated cards.

package simcard

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

var errNoLocks = fmt.Errorf("simulated cards do not work on %s: %w", runtime.GOOS, errors.ErrUnsupported)

func lockWhole(*os.File) (bool, error)       { return false, errNoLocks }
func lockForRemoval(*os.File) (bool, error)  { return false, errNoLocks }
func lockHolder(*os.File) (int, bool, error) { return 0, false, errNoLocks }
