//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

// POSIX record locks on entries.

package simcard

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// removalByte lies past every entry's end: within the whole-file lock of a
// holder, outside the range that readers ask about.
const removalByte = 1 << 20

// lockWhole takes the lock that a living process keeps on its entry, and tells
// whether it got it.
func lockWhole(f *os.File) (bool, error) {
	return tryLock(f, &syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart})
}

// lockForRemoval takes a lock that excludes every holder without looking like
// one, and tells whether it got it.
func lockForRemoval(f *os.File) (bool, error) {
	return tryLock(f, &syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: removalByte, Len: 1})
}

func tryLock(f *os.File, lock *syscall.Flock_t) (bool, error) {
	err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, lock)
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		return false, nil
	}
	return err == nil, err
}

// lockHolder tells whether another process holds the entry, and its number.
func lockHolder(f *os.File) (pid int, held bool, err error) {
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Len: entrySize}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &lock); err != nil {
		return 0, false, err
	}
	if lock.Type == syscall.F_UNLCK {
		return 0, false, nil
	}
	return int(lock.Pid), true, nil
}
