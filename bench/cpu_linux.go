// This file owns what is asked of Linux: how much processor time a process has
// taken, how much memory it holds, and on which processors it runs.

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// clockTick is what /proc counts processor time in: USER_HZ is 100 on all that Go
// runs on.
const clockTick = time.Second / 100

// cpuTime is the processor time that a process has taken, user and system, all its
// threads together, those that have ended too.
func cpuTime(pid int) (time.Duration, error) {
	// The processor clock of any process, to the nanosecond: CPUCLOCK_SCHED (2) of
	// the process, as clock_getcpuclockid(3) makes it.
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err == nil {
		return time.Duration(ts.Nano()), nil
	}
	// A kernel that has no such clocks.
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading the processor time of process %d: %w", pid, err)
	}
	return parseStat(text)
}

// parseStat finds utime and stime in /proc/<pid>/stat: the 14th and 15th field, of
// which the second is the program's name in parentheses, which may hold anything.
func parseStat(text []byte) (time.Duration, error) {
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("%q is not what /proc tells of a process", text)
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not what /proc tells of a process: %w", text, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// selfCPU is the processor time that this process has taken.
func selfCPU() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts) // always there
	return time.Duration(ts.Nano())
}

// resident is how much memory a process holds, in bytes.
func resident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of process %d: %w", pid, err)
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0, fmt.Errorf("%q is not what /proc tells of a process's memory", text)
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// processors are those that this process may use, in order.
func processors() []int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	var all []int
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			all = append(all, i)
		}
	}
	return all
}

// pinSelf has all threads of this process run on some processors only, and Go use
// no more than these.
func pinSelf(to []int) {
	set := setOf(to)
	tasks, _ := filepath.Glob("/proc/self/task/*")
	for _, t := range tasks {
		if tid, err := strconv.Atoi(filepath.Base(t)); err == nil {
			_ = unix.SchedSetaffinity(tid, &set) // a thread that has just ended
		}
	}
	runtime.GOMAXPROCS(len(to))
}

// pinned calls start on a thread that runs on some processors only: a process that
// it starts inherits them, and its Go runtime counts no others.
func pinned(to []int, start func() error) error {
	if len(to) == 0 {
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return start()
	}
	set := setOf(to)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return start()
	}
	defer func() { _ = unix.SchedSetaffinity(0, &before) }()
	return start()
}

func setOf(cpus []int) unix.CPUSet {
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	return set
}
