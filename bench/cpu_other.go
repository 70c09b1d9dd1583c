//go:build !linux

// This file owns the same for systems on which the suite does not run: it says so.

package main

import (
	"errors"
	"time"
)

var errNotLinux = errors.New("the suite reads processor time and memory as Linux tells them: run it there")

func cpuTime(int) (time.Duration, error)       { return 0, errNotLinux }
func selfCPU() time.Duration                   { return 0 }
func resident(int) (int64, error)              { return 0, errNotLinux }
func processors() []int                        { return nil }
func pinSelf([]int)                            {}
func pinned(_ []int, start func() error) error { return start() }
