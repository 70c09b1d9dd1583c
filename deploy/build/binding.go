package main

import (
	"debug/elf"
	"fmt"
	"slices"
)

// checkBinding refuses a binary whose functions are all bound when it starts.
// go-nvml leaves the functions of NVIDIA's library to be found when they are first
// called, so on a machine without the library such a binary ends before its first
// instruction. A static binary binds nothing; what is no ELF file is not Linux's.
func checkBinding(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		if _, isFormat := err.(*elf.FormatError); isFormat { //nolint:errorlint // package elf returns it unwrapped
			return nil
		}
		return fmt.Errorf("looking at how %s is linked: %w", path, err)
	}
	defer f.Close()

	if f.Section(".dynamic") == nil {
		return nil
	}
	now := false
	for tag, bit := range map[elf.DynTag]uint64{
		elf.DT_FLAGS:   uint64(elf.DF_BIND_NOW),
		elf.DT_FLAGS_1: uint64(elf.DF_1_NOW),
	} {
		values, err := f.DynValue(tag)
		if err != nil {
			return fmt.Errorf("looking at how %s is linked: %w", path, err)
		}
		now = now || slices.ContainsFunc(values, func(v uint64) bool { return v&bit != 0 })
	}
	bind, err := f.DynValue(elf.DT_BIND_NOW)
	if err != nil {
		return fmt.Errorf("looking at how %s is linked: %w", path, err)
	}
	if now || len(bind) > 0 {
		return fmt.Errorf("%s binds all functions when it starts, and would not start without NVIDIA's library: "+
			"link it with -extldflags=-Wl,-z,lazy", path)
	}
	return nil
}
