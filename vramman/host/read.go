package host

import (
	"fmt"
	"io/fs"
)

// This file puts together what the kernel tells.

// readMachine reads the machine's memory from a file system with a /proc.
func readMachine(root fs.FS) (Memory, error) {
	text, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return Memory{}, fmt.Errorf("the host's memory: %w", err)
	}
	m, err := parseMeminfo(string(text))
	if err != nil {
		return Memory{}, fmt.Errorf("the host's memory: /proc/meminfo: %w", err)
	}
	return m, nil
}

// read is the same within the limits of this process's control groups.
func read(root fs.FS) (Memory, error) {
	m, err := readMachine(root)
	if err != nil {
		return Memory{}, err
	}
	return m.within(limits(root)), nil
}
