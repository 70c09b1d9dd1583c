package nvidiasmi

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
)

// command writes a script that stands in for nvidia-smi and returns its path. $what
// is "cards" or "apps".
func command(t *testing.T, script string) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the stand-in for the command is a shell script")
	}
	path := filepath.Join(t.TempDir(), "nvidia-smi")
	head := `#!/bin/sh
case "$*" in
"--query-gpu=` + cardFields + ` --format=csv,noheader,nounits") what=cards ;;
"--query-compute-apps=` + appFields + ` --format=csv,noheader,nounits") what=apps ;;
*) echo "Invalid combination of input arguments." ; exit 2 ;;
esac
`
	if err := os.WriteFile(path, []byte(head+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

const twoCards = `
if [ $what = apps ]; then
	echo "GPU-1, 4242, 1024"
	exit
fi
echo "GPU-1, 81559, 4096, 77463, Disabled, 580.95.05, NVIDIA H100"
echo "GPU-2, 24576, 0, 24576, [N/A], 580.95.05, NVIDIA L4"
`

func opened(t *testing.T, command string) (gpu.Inventory, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	inv, err := (&Spec{Command: command}).Open(t.Context(), zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	return inv, logs
}

func TestReadings(t *testing.T) {
	path := command(t, twoCards)
	want := []gpu.Card{
		{
			UUID: "GPU-1", Name: "NVIDIA H100", Driver: "580.95.05", Total: 81559 * mib, Used: 4096 * mib,
			Processes: []gpu.Process{{PID: 4242, Used: 1024 * mib}},
		},
		{UUID: "GPU-2", Name: "NVIDIA L4", Driver: "580.95.05", Total: 24576 * mib},
	}
	t.Setenv("PATH", filepath.Dir(path)+string(filepath.ListSeparator)+os.Getenv("PATH"))
	for _, named := range []string{path, "", "nvidia-smi"} {
		inv, logs := opened(t, named)
		got, err := inv.Read(t.Context())
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: read %+v, %v\nwant %+v", named, got, err, want)
		}
		if logs.Len() > 0 {
			t.Errorf("%q: logged %v", named, logs.All())
		}
		if err := inv.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestWhatIsLeftOut shows what the gateway does without, and says so once.
func TestWhatIsLeftOut(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		want         []gpu.Card
		err          string
		warning      string
	}{
		{
			"processes cannot be told",
			"[ $what = apps ] && echo 'not supported' && exit 3\necho 'GPU-1, 3, 1, 2, [N/A], 1, x'",
			[]gpu.Card{{UUID: "GPU-1", Name: "x", Driver: "1", Total: 3 * mib, Used: mib, Unattributed: true}},
			"", "nvidia-smi does not tell the processes on the cards",
		},
		{
			"slices",
			"[ $what = apps ] || echo 'GPU-1, 3, 1, 2, Enabled, 1, x\nGPU-2, 3, 0, 3, Disabled, 1, x'",
			[]gpu.Card{{UUID: "GPU-2", Name: "x", Driver: "1", Total: 3 * mib}},
			"", "a card in slices (MIG) is left out, since nvidia-smi gives no figures for slices: use 'gpus nvml'",
		},
		{
			"nothing but slices",
			"[ $what = apps ] || echo 'GPU-1, 3, 1, 2, Enabled, 1, x'",
			nil, "none of the machine's cards can be used", "a card in slices",
		},
		{
			"a lost card, and the status that goes with it",
			"[ $what = apps ] || { echo 'GPU-1, 3, 1, 2, [N/A], 1, x\nGPU-2, [GPU is lost], [N/A], [N/A], [N/A], 1, x'; exit 15; }",
			[]gpu.Card{{UUID: "GPU-1", Name: "x", Driver: "1", Total: 3 * mib, Used: mib}},
			"", "nvidia-smi reports a failure",
		},
		{
			"not measured",
			"[ $what = apps ] || echo 'GPU-1, [N/A], [N/A], [N/A], [N/A], 580, NVIDIA GB10'",
			[]gpu.Card{{UUID: "GPU-1", Name: "NVIDIA GB10", Driver: "580", Unmeasured: true}},
			"", "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv, logs := opened(t, command(t, tt.script))
			for range 2 {
				got, err := inv.Read(t.Context())
				if !reflect.DeepEqual(got, tt.want) || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
					t.Errorf("read %+v, %v\nwant %+v, %q", got, err, tt.want, tt.err)
				}
			}
			if n := logs.FilterMessageSnippet(tt.warning).Len(); tt.warning != "" && n != 1 || tt.warning == "" && logs.Len() > 0 {
				t.Errorf("logged %v, want %q once", logs.All(), tt.warning)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, command, want string }{
		{"no command", "nvidia-smi-is-not-here", "install NVIDIA's driver"},
		{"no file", "/nowhere/nvidia-smi", "gpus nvidia_smi { command <path> }"},
		{"no program", text, "permission denied"},
		{
			"no driver",
			command(t, "echo \"NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\"\necho\nexit 9"),
			`failed with status 9 and printed "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."`,
		},
		{"no words", command(t, "exit 1"), "failed with status 1 and printed nothing"},
		{"words among errors", command(t, "echo one\necho two >&2\nexit 1"), `failed with status 1 and printed "two"`},
		{"killed", command(t, "kill -9 $$"), "failed with status -1"},
		{"no devices", command(t, "echo No devices were found"), `no card was found: the command printed "No devices were found"`},
		{"old driver", command(t, `echo 'Field "mig.mode.current" is not a valid field to query.'; exit 2`), `is not a valid field to query`},
		{"no end of output", command(t, "while echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; do n=$((n+1)); [ $n -gt 20000 ] && exit; done"), "printed more than 1048576 bytes"},
		{"a strange number", command(t, "[ $what = apps ] || echo 'GPU-1, x, 1, 2, [N/A], 1, x'"), `"x" is not a number of MiB`},
		{"a strange process", command(t, "[ $what = apps ] && echo 'GPU-1, 1, x' || echo 'GPU-1, 3, 1, 2, [N/A], 1, x'"), `the process 1: "x" is not`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv, _ := opened(t, tt.command)
			for range 2 {
				got, err := inv.Read(t.Context())
				if err == nil || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 1000 {
					t.Errorf("read %+v, %v, want %q", got, err, tt.want)
				}
			}
		})
	}
}

// TestCommandEndsWithItsReading shows that a command does not go on when nobody
// waits for it: the next one begins when it has ended.
func TestCommandEndsWithItsReading(t *testing.T) {
	runs := filepath.Join(t.TempDir(), "runs")
	inv, _ := opened(t, command(t, "if [ ! -e "+runs+" ]; then\n: > "+runs+"\nexec sleep 600\nfi\n"+twoCards))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := inv.Read(ctx)
		ended <- err
	}()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for range look.C {
		if _, err := os.Stat(runs); err == nil {
			break
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("read: %v", err)
	}
	if got, err := inv.Read(t.Context()); err != nil || len(got) != 2 {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestKey(t *testing.T) {
	if a, b := (&Spec{}).Key(), (&Spec{Command: "/x"}).Key(); a == b || a != new(Spec).Key() {
		t.Errorf("keys %q and %q", a, b)
	}
}
