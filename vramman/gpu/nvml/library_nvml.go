//go:build cgo && linux && nvml

package nvml

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// This file owns the calls into the library by way of go-nvml, which binds them
// lazily: a call of a function that no loaded library has ends the whole process,
// and nothing can recover it. So what is called is looked up first.

// required are the functions without which a library is not used at all. Drivers
// have had them for more than ten years.
var required = []string{
	"nvmlInit_v2", "nvmlShutdown", "nvmlErrorString", "nvmlSystemGetDriverVersion",
	"nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2",
	"nvmlDeviceGetUUID", "nvmlDeviceGetName", "nvmlDeviceGetMemoryInfo",
}

// loaded is the library of this process. Once loaded it stays: calls that were
// bound to it stay bound, even if another library were loaded. It is used in the
// turns of calls only.
var loaded struct {
	path string // empty: none yet
	nvml nvml.Interface
	has  map[string]bool // which optional functions it has
}

// shared is the library of this process as one inventory uses it.
type shared struct {
	path string
	nvml nvml.Interface // nil until loaded
	has  map[string]bool
}

// load loads the library unless this process has it already.
func (s *shared) load() error {
	if s.nvml != nil {
		return nil
	}
	switch loaded.path {
	case "":
		has, err := open(s.path)
		if err != nil {
			return err
		}
		loaded.path, loaded.has = s.path, has
		loaded.nvml = nvml.New(nvml.WithLibraryPath(s.path))
	case s.path:
	default:
		return fmt.Errorf("the library %s is in use already, and a process can use one only: restart Caddy to change to %s", loaded.path, s.path)
	}
	s.nvml, s.has = loaded.nvml, loaded.has
	return nil
}

// open loads a library for good, once it is certain that it is NVML. It tells
// which of the optional functions are there.
func open(path string) (map[string]bool, error) {
	// Lazily as go-nvml does it, but to itself until it is known what it is.
	l := dl.New(path, dl.RTLD_LAZY|dl.RTLD_LOCAL)
	if err := l.Open(); err != nil {
		return nil, fmt.Errorf("NVIDIA's library cannot be loaded: %w: it comes with the driver, and NVIDIA's container toolkit "+
			"passes it into containers (NVIDIA_DRIVER_CAPABILITIES must include 'utility'); where it is elsewhere, "+
			"set 'gpus nvml { library <path> }'; without a driver, set 'gpus static'", err)
	}
	for _, name := range required {
		if err := l.Lookup(name); err != nil {
			return nil, errors.Join(fmt.Errorf("%s is not NVIDIA's library NVML: it has no function %s", path, name), l.Close())
		}
	}
	has := make(map[string]bool)
	for _, name := range []string{computeList, graphicsList, mpsList} {
		// go-nvml calls the newest version that there is.
		has[name] = slices.ContainsFunc([]string{"", "_v2", "_v3"}, func(version string) bool { return l.Lookup(name+version) == nil })
	}
	has[migMode] = !slices.ContainsFunc([]string{migMode, migMost, migSlice}, func(name string) bool { return l.Lookup(name) != nil })
	return has, nil
}

// The optional functions, by the names without a version.
const (
	computeList  = "nvmlDeviceGetComputeRunningProcesses"
	graphicsList = "nvmlDeviceGetGraphicsRunningProcesses"
	mpsList      = "nvmlDeviceGetMPSComputeRunningProcesses"
	migMode      = "nvmlDeviceGetMigMode" // stands for all three
	migMost      = "nvmlDeviceGetMaxMigDeviceCount"
	migSlice     = "nvmlDeviceGetMigDeviceHandleByIndex"
)

// result is the error of a call, or nil.
func result(call string, ret nvml.Return) error {
	switch ret {
	case nvml.SUCCESS:
		return nil
	case nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_FUNCTION_NOT_FOUND:
		return fmt.Errorf("%s: %w", call, errUnsupported)
	case nvml.ERROR_NOT_FOUND:
		return fmt.Errorf("%s: %w", call, errNotFound)
	}
	// The words are the library's own memory.
	return &callError{call: call, code: int(ret), text: strings.Clone(ret.Error())}
}

func (s *shared) start() error {
	if err := s.load(); err != nil {
		return err
	}
	return result("nvmlInit", s.nvml.Init())
}

func (s *shared) stop() error { return result("nvmlShutdown", s.nvml.Shutdown()) }

func (s *shared) driver() (string, error) {
	version, ret := s.nvml.SystemGetDriverVersion()
	return version, result("nvmlSystemGetDriverVersion", ret)
}

func (s *shared) count() (int, error) {
	n, ret := s.nvml.DeviceGetCount()
	return n, result("nvmlDeviceGetCount", ret)
}

func (s *shared) card(index int) (device, error) {
	d, ret := s.nvml.DeviceGetHandleByIndex(index)
	return &handle{d, s.has}, result("nvmlDeviceGetHandleByIndex", ret)
}

// handle is a card or a slice.
type handle struct {
	nvml nvml.Device
	has  map[string]bool
}

func (h *handle) uuid() (string, error) {
	uuid, ret := h.nvml.GetUUID()
	return uuid, result("nvmlDeviceGetUUID", ret)
}

func (h *handle) name() (string, error) {
	name, ret := h.nvml.GetName()
	return name, result("nvmlDeviceGetName", ret)
}

// memory uses the first version of its call: there, what is used includes what
// the driver keeps for itself, which is no room either.
func (h *handle) memory() (total, used uint64, err error) {
	m, ret := h.nvml.GetMemoryInfo()
	return m.Total, m.Used, result("nvmlDeviceGetMemoryInfo", ret)
}

func (h *handle) compute() ([]process, error) {
	return h.processes(computeList, h.nvml.GetComputeRunningProcesses)
}

func (h *handle) graphics() ([]process, error) {
	return h.processes(graphicsList, h.nvml.GetGraphicsRunningProcesses)
}

func (h *handle) mps() ([]process, error) {
	return h.processes(mpsList, h.nvml.GetMPSComputeRunningProcesses)
}

func (h *handle) processes(call string, list func() ([]nvml.ProcessInfo, nvml.Return)) ([]process, error) {
	if !h.has[call] {
		return nil, fmt.Errorf("%s: %w", call, errUnsupported)
	}
	infos, ret := list()
	if err := result(call, ret); err != nil {
		return nil, err
	}
	ps := make([]process, len(infos))
	for i, info := range infos {
		ps[i] = process{info.Pid, info.UsedGpuMemory}
	}
	return ps, nil
}

func (h *handle) slices() (int, error) {
	if !h.has[migMode] {
		return 0, nil
	}
	current, _, ret := h.nvml.GetMigMode()
	if err := result(migMode, ret); errors.Is(err, errUnsupported) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	if current != nvml.DEVICE_MIG_ENABLE {
		return 0, nil
	}
	n, ret := h.nvml.GetMaxMigDeviceCount()
	return n, result(migMost, ret)
}

func (h *handle) slice(index int) (device, error) {
	d, ret := h.nvml.GetMigDeviceHandleByIndex(index)
	return &handle{d, h.has}, result(migSlice, ret)
}

// Interface guards
var (
	_ library = (*shared)(nil)
	_ device  = (*handle)(nil)
)
