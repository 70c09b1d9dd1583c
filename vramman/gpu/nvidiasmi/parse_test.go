package nvidiasmi

import (
	"reflect"
	"strings"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
)

const mib = 1 << 20

func TestParseCards(t *testing.T) {
	for _, tt := range []struct {
		name, out string
		want      []row
		err       string
	}{
		{
			name: "as it should be",
			out: "GPU-1, 81559, 4096, 76949, Disabled, 580.95.05, NVIDIA H100 80GB HBM3\n" +
				"GPU-2, 24576, 0, 24576, [N/A], 580.95.05, NVIDIA GeForce RTX 4090\n",
			want: []row{
				{card: gpu.Card{UUID: "GPU-1", Name: "NVIDIA H100 80GB HBM3", Driver: "580.95.05", Total: 81559 * mib, Used: 4610 * mib}},
				{card: gpu.Card{UUID: "GPU-2", Name: "NVIDIA GeForce RTX 4090", Driver: "580.95.05", Total: 24576 * mib}},
			},
		},
		{
			name: "no memory of its own",
			out:  "GPU-1, [N/A], [N/A], [N/A], [N/A], 580.95.05, NVIDIA GB10\n",
			want: []row{{card: gpu.Card{UUID: "GPU-1", Name: "NVIDIA GB10", Driver: "580.95.05", Unmeasured: true}}},
		},
		{
			name: "use not told",
			out:  "GPU-1, 24576, [Not Supported], [Not Supported], [N/A], 470.1, [Unknown Error]\r\n",
			want: []row{{card: gpu.Card{UUID: "GPU-1", Driver: "470.1", Total: 24576 * mib, Unmeasured: true}}},
		},
		{
			name: "free not told, and a comma in the name",
			out:  "  GPU-1 ,24576,100,[N/A],[N/A],470.1,Tesla, the second\n",
			want: []row{{card: gpu.Card{UUID: "GPU-1", Name: "Tesla, the second", Driver: "470.1", Total: 24576 * mib, Used: 100 * mib}}},
		},
		{
			name: "sliced, and lost",
			out: "GPU-1, 81559, 4096, 76949, Enabled, 580.1, NVIDIA H100\nUnable to determine the device handle\n" +
				"GPU-2, [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], 580.1, [GPU is lost]\n" +
				"GPU-3, 10, [GPU requires reset], 10, Disabled, 580.1, x\nWARNING: infoROM is corrupted at gpu 0000:0E:00.0\n",
			want: []row{
				{card: gpu.Card{UUID: "GPU-1", Name: "NVIDIA H100", Driver: "580.1", Total: 81559 * mib, Used: 4610 * mib}, sliced: true},
				{card: gpu.Card{UUID: "GPU-2", Driver: "580.1", Unmeasured: true}, lost: true},
				{card: gpu.Card{UUID: "GPU-3", Name: "x", Driver: "580.1", Total: 10 * mib}, lost: true},
			},
		},
		{name: "nothing", out: "", err: "no card was found: the command printed nothing"},
		{name: "no devices", out: "No devices were found\n", err: `the command printed "No devices were found"`},
		{name: "another program", out: "hello\nworld\n", err: `printed "hello"`},
		{name: "too few fields", out: "GPU-1, 24576\n", err: "no card was found"},
		{name: "no number", out: "GPU-1, many, 0, 0, [N/A], 1, x\n", err: `the card GPU-1: "many" is not a number of MiB`},
		{name: "below zero", out: "GPU-1, 24576, -1, 0, [N/A], 1, x\n", err: `"-1" is not a number`},
		{name: "too large", out: "GPU-1, 99999999999999999999, 1, 0, [N/A], 1, x\n", err: "is not a number"},
		{name: "twice", out: "GPU-1, 1, 1, 0, [N/A], 1, x\nGPU-1, 1, 1, 0, [N/A], 1, x\n", err: "GPU-1 stands twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseCards(tt.out)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %+v, %v, want %q", got, err, tt.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}

func TestParseApps(t *testing.T) {
	a, err := parseApps("GPU-1, 20, 1024\nGPU-1, 10, 512\nGPU-2, 10, 1\nGPU-1, 10, 1\nGPU-1, 30, 0\n\nNo running processes found\n" +
		"GPU-3, 40, [N/A]\nGPU-3, 41, 7\nGPU-4, [Not Found], [Not Found]\nGPU-5, [Insufficient Permissions], 8\n")
	if err != nil {
		t.Fatal(err)
	}
	for uuid, want := range map[string]struct {
		list []gpu.Process
		mute bool
	}{
		"GPU-1": {[]gpu.Process{{PID: 10, Used: 513 * mib}, {PID: 20, Used: 1024 * mib}}, false},
		"GPU-2": {[]gpu.Process{{PID: 10, Used: 1 * mib}}, false},
		"GPU-3": {[]gpu.Process{{PID: 40}, {PID: 41, Used: 7 * mib}}, true},
		"GPU-4": {nil, true},
		"GPU-5": {nil, true},
		"GPU-6": {nil, false},
	} {
		list, mute := a.of(uuid)
		if !reflect.DeepEqual(list, want.list) || mute != want.mute {
			t.Errorf("%s: got %v, %t, want %v, %t", uuid, list, mute, want.list, want.mute)
		}
	}
	if list, mute := (*apps)(nil).of("GPU-1"); list != nil || !mute {
		t.Errorf("without any answer: %v, %t", list, mute)
	}
	if _, err := parseApps("GPU-1, 10, much\n"); err == nil || !strings.Contains(err.Error(), `the process 10: "much" is not a number`) {
		t.Errorf("got %v", err)
	}
}

// FuzzParse shows that whatever is printed becomes figures that make sense, or an
// error.
func FuzzParse(f *testing.F) {
	for _, out := range []string{
		"", "GPU-1, 81559, 4096, 76949, Disabled, 580.95.05, NVIDIA H100 80GB HBM3\n", "GPU-1, 1, 2, 3, , , ,\n",
		"GPU-1, [N/A], 4294967295, [N/A], Enabled, [N/A], [N/A]\nGPU-1, 4294967296, 1\n", "GPU-1, 10, 512\nGPU-1, 10, [N/A]\n",
		"GPU-,,,,,,\nGPU-,,", "GPU-1,4294967295,4294967295\r\nGPU-1,4294967295, 4294967295\r\n",
	} {
		f.Add(out)
	}
	f.Fuzz(func(t *testing.T, out string) {
		rows, err := parseCards(out)
		if err == nil && len(rows) == 0 {
			t.Error("no card and no error")
		}
		for _, r := range rows {
			if c := r.card; !strings.HasPrefix(c.UUID, "GPU-") || c.Used < 0 || c.Used > c.Total || c.Unmeasured && c.Used != 0 {
				t.Errorf("a card %+v", c)
			}
		}
		a, err := parseApps(out)
		if err != nil {
			return
		}
		for uuid := range a.used {
			list, mute := a.of(uuid)
			for i, p := range list {
				if p.PID < 0 || p.Used < 0 || p.Used == 0 && !mute || i > 0 && list[i-1].PID >= p.PID {
					t.Errorf("processes %+v", list)
				}
			}
		}
	})
}
