//go:build cgo && linux && nvml

package nvml

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
)

const gib = 1 << 30

func TestReadings(t *testing.T) {
	c := newChild(t, standIn(t))
	c.is("driver 580.95.05",
		"card GPU-1 85899345920 5368709120 NVIDIA H100 80GB HBM3",
		"compute 4242 4294967296",
		"graphics 4243 536870912",
		"graphics 4242 4294967296", // of both kinds, and all in both
		"mps 4244 1024",
		"compute 4245 0",
		"card GPU-2 25769803776 0 NVIDIA L4")
	c.do("open")
	got := c.do("read")
	want := []gpu.Card{
		{
			UUID: "GPU-1", Name: "NVIDIA H100 80GB HBM3", Driver: "580.95.05", Total: 80 * gib, Used: 5 * gib,
			Processes: []gpu.Process{{PID: 4242, Used: 4 * gib}, {PID: 4243, Used: gib / 2}, {PID: 4244, Used: 1024}},
		},
		{UUID: "GPU-2", Name: "NVIDIA L4", Driver: "580.95.05", Total: 24 * gib},
	}
	if got.Err != "" || !reflect.DeepEqual(got.Cards, want) {
		t.Errorf("read %+v\nwant %+v", got, want)
	}
	if !slices.Equal(got.Log, []string{"the cards are read through NVML"}) {
		t.Errorf("logged %q", got.Log)
	}

	// What changes shows at the next reading.
	c.is("driver 580.95.05", "card GPU-1 85899345920 1024 NVIDIA H100 80GB HBM3", "compute 9 1024")
	got = c.do("read")
	if got.Err != "" || len(got.Cards) != 1 || got.Cards[0].Used != 1024 || !reflect.DeepEqual(got.Cards[0].Processes, []gpu.Process{{PID: 9, Used: 1024}}) {
		t.Errorf("read %+v", got)
	}
	if len(got.Log) != 0 {
		t.Errorf("logged %q", got.Log)
	}

	// Closed and opened again, as reloads do.
	if got := c.do("close"); got.Err != "" {
		t.Errorf("closing: %s", got.Err)
	}
	if got := c.do("read"); !strings.Contains(got.Err, "closed") {
		t.Errorf("read %+v after closing", got)
	}
	c.do("open")
	if got := c.do("read"); got.Err != "" || len(got.Cards) != 1 {
		t.Errorf("read %+v", got)
	}
	c.do("close")
}

func TestSlicesAreCards(t *testing.T) {
	c := newChild(t, standIn(t))
	c.is("driver 580.95.05",
		"card GPU-1 85899345920 5368709120 NVIDIA H100",
		"slice MIG-1 42949672960 2147483648 NVIDIA H100 MIG 3g.40gb",
		"compute 7 2147483648",
		"slice MIG-2 10737418240 0 NVIDIA H100 MIG 1g.10gb",
		"card GPU-2 85899345920 0 NVIDIA H100")
	c.do("open")
	got := c.do("read")
	want := []gpu.Card{
		{
			UUID: "MIG-1", Name: "NVIDIA H100 MIG 3g.40gb", Driver: "580.95.05", Total: 40 * gib, Used: 2 * gib,
			Processes: []gpu.Process{{PID: 7, Used: 2 * gib}},
		},
		{UUID: "MIG-2", Name: "NVIDIA H100 MIG 1g.10gb", Driver: "580.95.05", Total: 10 * gib},
		{UUID: "GPU-2", Name: "NVIDIA H100", Driver: "580.95.05", Total: 80 * gib},
	}
	if got.Err != "" || !reflect.DeepEqual(got.Cards, want) {
		t.Errorf("read %+v\nwant %+v", got, want)
	}
}

// TestNoLibrary shows that a machine without a driver costs an error, and that the
// driver may come later.
func TestNoLibrary(t *testing.T) {
	folder := t.TempDir()
	c := newChild(t, folder)
	if got := c.do("open"); got.Err != "" {
		t.Error(got.Err)
	}
	for range 2 {
		got := c.do("read")
		for _, want := range []string{"libnvidia-ml.so.1", "No such file", "comes with the driver"} {
			if !strings.Contains(got.Err, want) {
				t.Errorf("%q lacks %q", got.Err, want)
			}
		}
	}
	if got := c.do("close"); got.Err != "" {
		t.Error(got.Err)
	}

	// It is installed.
	library := filepath.Join(standIn(t), standardLibrary)
	c.is("driver 1", "card GPU-1 1024 0 x")
	c.do("open %s", library)
	if got := c.do("read"); got.Err != "" || len(got.Cards) != 1 {
		t.Errorf("read %+v", got)
	}
	c.do("close")

	// A process uses one library for all its life.
	c.do("open %s", filepath.Join(standIn(t), standardLibrary))
	if got := c.do("read"); !strings.Contains(got.Err, "restart Caddy to change to") {
		t.Errorf("read %+v", got)
	}
}

func TestWrongLibraries(t *testing.T) {
	other := filepath.Join(standIn(t, "-DOTHER"), standardLibrary)
	source, err := filepath.Abs("testdata/nvml.c")
	if err != nil {
		t.Fatal(err)
	}
	for library, want := range map[string]string{
		other:  "it has no function nvmlInit_v2",
		source: "cannot be loaded",
		"/":    "cannot be loaded",
	} {
		c := newChild(t, t.TempDir())
		c.do("open %s", library)
		if got := c.do("read"); !strings.Contains(got.Err, want) {
			t.Errorf("%s: read %+v, want %q", library, got, want)
		}
		c.do("close")
	}
}

// TestOldLibrary shows that functions which a library lacks are not called.
func TestOldLibrary(t *testing.T) {
	c := newChild(t, standIn(t, "-DOLD"))
	c.is("driver 440.33", "card GPU-1 1024 512 x", "compute 5 512", "graphics 6 512")
	c.do("open")
	got := c.do("read")
	want := []gpu.Card{{UUID: "GPU-1", Name: "x", Driver: "440.33", Total: 1024, Used: 512, Processes: []gpu.Process{{PID: 5, Used: 512}}}}
	if got.Err != "" || !reflect.DeepEqual(got.Cards, want) {
		t.Errorf("read %+v\nwant %+v", got, want)
	}
}

// TestCallsThatFail has each call fail, at the start of a session and within one,
// and shows that the reading after that is well.
func TestCallsThatFail(t *testing.T) {
	c := newChild(t, standIn(t))
	c.do("open")
	for call, want := range map[string]string{
		"nvmlInit 18":                               "nvmlInit: stand-in error 18 (code 18): the driver was updated",
		"nvmlInit 4":                                "/dev/nvidiactl",
		"nvmlSystemGetDriverVersion 999":            "nvmlSystemGetDriverVersion: stand-in error 999 (code 999): the kernel's log",
		"nvmlDeviceGetCount 999":                    "nvmlDeviceGetCount: stand-in error 999",
		"nvmlDeviceGetHandleByIndex 15":             "card 0: nvmlDeviceGetHandleByIndex: stand-in error 15 (code 15): the card has fallen off the bus",
		"nvmlDeviceGetUUID 2":                       "card 0: nvmlDeviceGetUUID: stand-in error 2",
		"nvmlDeviceGetName 999":                     "card 0: nvmlDeviceGetName: stand-in error 999",
		"nvmlDeviceGetMemoryInfo 16":                "card 0: nvmlDeviceGetMemoryInfo: stand-in error 16 (code 16): the card must be reset",
		"nvmlDeviceGetComputeRunningProcesses 999":  "card 0: nvmlDeviceGetComputeRunningProcesses: stand-in error 999",
		"nvmlDeviceGetMPSComputeRunningProcesses 1": "card 0: nvmlDeviceGetMPSComputeRunningProcesses: stand-in error 1",
		"nvmlDeviceGetMigMode 999":                  "card 0: nvmlDeviceGetMigMode: stand-in error 999",
	} {
		well := []string{"driver 1", "card GPU-1 1024 0 x"}
		c.is(append(well, "fail "+call)...)
		if strings.HasPrefix(call, "nvmlInit") || strings.HasPrefix(call, "nvmlSystem") { // made at the start only
			c.do("close")
			c.do("open")
		}
		for range 3 {
			if got := c.do("read"); len(got.Cards) > 0 || !strings.Contains(got.Err, want) {
				t.Errorf("%s: read %+v, want %q", call, got, want)
			}
		}
		c.is(well...)
		if got := c.do("read"); got.Err != "" || len(got.Cards) != 1 {
			t.Errorf("%s: read %+v when all was well again", call, got)
		}
	}
}

func TestDriverGoesAndComes(t *testing.T) {
	c := newChild(t, standIn(t))
	c.do("open")
	for range 2 {
		if got := c.do("read"); !strings.Contains(got.Err, "(code 9): NVIDIA's driver is not running") {
			t.Errorf("read %+v before there is a driver", got)
		}
		c.is("driver 580.1", "card GPU-1 1024 0 x")
		if got := c.do("read"); got.Err != "" || len(got.Cards) != 1 || got.Cards[0].Driver != "580.1" {
			t.Errorf("read %+v", got)
		}
		// It dies within a session.
		c.is()
		if got := c.do("read"); !strings.Contains(got.Err, "(code 999)") {
			t.Errorf("read %+v when the driver had died", got)
		}
		// A new one, whatever its version, is read like the first.
		c.is("driver 590.2", "card GPU-2 2048 0 y")
		if got := c.do("read"); got.Err != "" || len(got.Cards) != 1 || got.Cards[0].Driver != "590.2" {
			t.Errorf("read %+v", got)
		}
		c.is()
		c.do("read")
	}
}

// TestDriverHangs has the driver not answer for as long as the reading waits.
func TestDriverHangs(t *testing.T) {
	c := newChild(t, standIn(t))
	c.is("driver 1", "card GPU-1 1024 0 x", "hang nvmlDeviceGetMemoryInfo")
	c.do("open")
	for range 2 {
		if got := c.do("read 20ms"); !strings.Contains(got.Err, "the driver has not answered for") {
			t.Errorf("read %+v", got)
		}
	}
	c.is("driver 1", "card GPU-1 1024 0 x")
	if got := c.do("read"); got.Err != "" || len(got.Cards) != 1 {
		t.Errorf("read %+v when the driver answered again", got)
	}
}
