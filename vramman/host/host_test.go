package host

import (
	"math"
	"path"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

const (
	mib = 1 << 20
	gib = 1 << 30

	// A machine of 24 GiB, of which 16 are available.
	meminfo = "MemTotal:       25165824 kB\nMemFree:         1048576 kB\nMemAvailable:   16777216 kB\nBuffers:          123456 kB\n"

	rootLine = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
	v2Line   = "30 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
	v1Line   = "36 25 0:31 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:16 - cgroup cgroup rw,memory\n"
	cpuLine  = "37 25 0:32 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
)

// machine is a file system of the kernel's with these files besides meminfo.
func machine(files map[string]string) fstest.MapFS {
	root := fstest.MapFS{"proc/meminfo": {Data: []byte(meminfo)}}
	for name, content := range files {
		root[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return root
}

func TestRead(t *testing.T) {
	whole := Memory{Total: 24 * gib, Available: 16 * gib}
	const mounts, group = "proc/self/mountinfo", "proc/self/cgroup"
	for _, test := range []struct {
		name  string
		files map[string]string
		want  Memory
	}{
		{"no control groups", nil, whole},
		{"no limit", map[string]string{
			mounts: rootLine + v2Line, group: "0::/user.slice\n", "sys/fs/cgroup/user.slice/memory.max": "max\n",
		}, whole},
		{"a limit beyond the machine", map[string]string{
			mounts: v1Line, group: "5:memory:/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
			"sys/fs/cgroup/memory/a/memory.usage_in_bytes": "9223372036854771711\n",
		}, whole},
		{"version 2", map[string]string{
			mounts: rootLine + v2Line, group: "0::/system.slice/caddy.service\n",
			"sys/fs/cgroup/system.slice/caddy.service/memory.max":     "8589934592\n",
			"sys/fs/cgroup/system.slice/caddy.service/memory.current": "6442450944\n",
			"sys/fs/cgroup/system.slice/caddy.service/memory.stat":    "anon 5368709120\nfile 1073741824\ninactive_file 1073741824\n",
		}, Memory{Total: 8 * gib, Available: 3 * gib}},
		{"version 2, the outer one is fuller", map[string]string{
			mounts: v2Line, group: "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max": "4294967296\n", "sys/fs/cgroup/a/b/memory.current": "0\n",
			"sys/fs/cgroup/a/memory.max": "8589934592\n", "sys/fs/cgroup/a/memory.current": "7516192768\n",
		}, Memory{Total: 4 * gib, Available: gib}},
		{"version 2 in a container", map[string]string{
			mounts: v2Line, group: "0::/\n", "sys/fs/cgroup/memory.max": "2147483648\n", "sys/fs/cgroup/memory.current": "4294967296\n",
		}, Memory{Total: 2 * gib, Available: 0}},
		{"version 1 in a container", map[string]string{
			mounts: cpuLine + strings.Replace(v1Line, " / /sys", " /docker/1234 /sys", 1),
			group:  "9:cpu,cpuacct:/docker/1234\n5:memory:/docker/1234\n0::/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "8589934592\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes": "1073741824\n",
			"sys/fs/cgroup/memory/memory.stat":           "inactive_file 1\ntotal_inactive_file 536870912\n",
		}, Memory{Total: 8 * gib, Available: 7*gib + 512*mib}},
		{"both, of which version 1 has the memory", map[string]string{
			mounts: v1Line + "31 22 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", group: "5:memory:/a\n0::/b\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1073741824", "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "0",
		}, Memory{Total: gib, Available: gib}},
		{"rubbish", map[string]string{
			mounts: v2Line, group: "0::/a\n", "sys/fs/cgroup/a/memory.max": "-5\n", "sys/fs/cgroup/memory.max": "lots\n",
		}, whole},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := read(machine(test.files))
			if err != nil || got != test.want {
				t.Errorf("got %+v, %v, want %+v", got, err, test.want)
			}
			if got, err := readMachine(machine(test.files)); err != nil || got != whole {
				t.Errorf("the machine has %+v, %v", got, err)
			}
		})
	}
}

func TestReadErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "there is no Mem",
		"MemTotal: 5 kB\n":                     "there is no MemAvailable",
		"MemTotal: x kB\nMemAvailable: y\n":    "not a number of kB",
		"MemTotal: 0 kB\nMemAvailable: 0 kB\n": "MemTotal is 0",
		"MemTotal: 9223372036854775807 kB\nMemAvailable: 1 kB\n": "not a number of kB",
		"MemTotal: 5 MB\nMemAvailable: 1 kB\n":                   "not a number of kB",
	} {
		root := fstest.MapFS{"proc/meminfo": {Data: []byte(text)}}
		if m, err := read(root); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v, want %q", text, m, err, want)
		}
	}
	if _, err := read(fstest.MapFS{}); err == nil || !strings.Contains(err.Error(), "the host's memory") {
		t.Errorf("without /proc: %v", err)
	}
}

// TestHere reads the machine that the test is on.
func TestHere(t *testing.T) {
	all, err := ReadMachine()
	if err != nil {
		t.Skip(err)
	}
	mine, err := Read()
	if err != nil || mine.Total > all.Total || mine.Total <= 0 || mine.Available < 0 || mine.Available > mine.Total {
		t.Errorf("got %+v of %+v: %v", mine, all, err)
	}
}

func TestFolders(t *testing.T) {
	for _, test := range []struct {
		root, at, group string
		want            []string
	}{
		{"/", "/sys/fs/cgroup", "/", []string{"/sys/fs/cgroup"}},
		{"/", "/cg", "/a/b", []string{"/cg/a/b", "/cg/a", "/cg"}},
		{"/a", "/cg", "/a", []string{"/cg"}},
		{"/a", "/cg", "/a/b", []string{"/cg/b", "/cg"}},
		{"/a", "/cg", "/ab", []string{"/cg"}},
		{"/a", "/cg", "/", []string{"/cg"}},
	} {
		if got := (hierarchy{root: test.root, at: test.at}).folders(test.group); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%+v: %q", test, got)
		}
	}
}

func FuzzMeminfo(f *testing.F) {
	for _, seed := range []string{
		meminfo, "", "MemTotal: 1 kB\nMemAvailable: 2 kB\n", "MemTotal:\nMemAvailable:", "MemTotal: 9007199254740991 kB\nMemAvailable: 1 kB",
		"MemTotal: -1 kB\nMemAvailable: 0 kB\n", "MemTotal: 1\t kB\r\nMemAvailable: +1 kB\r\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseMeminfo(text)
		if err == nil && (m.Total <= 0 || m.Available < 0 || m.Available > m.Total) {
			t.Errorf("%q gives %+v", text, m)
		}
	})
}

// FuzzGroups has the kernel say anything of control groups: what is left is never
// more than the machine has, and no folder outside of a mount is read.
func FuzzGroups(f *testing.F) {
	f.Add(rootLine+v2Line, "0::/a/b\n", "1073741824\n", "5\n", "inactive_file 3\n")
	f.Add(v1Line+cpuLine, "5:memory:/docker/1\n", "9223372036854771712", "1", "total_inactive_file 9223372036854775807")
	f.Add(`1 2 3:4 /a\040b /x\011y rw - cgroup2 c rw`+"\n", "0::/a b/c\n", "0", "-1", "inactive_file -4\n")
	f.Add("- - - - - - -\n1 2 3 / / o -\n", "::\n0::\n0::relative\n", "max", "", "")
	f.Add(v2Line, "0::/../../etc\n", "1", "9223372036854775807", "inactive_file")
	f.Fuzz(func(t *testing.T, mountinfo, cgroup, most, used, stat string) {
		for _, h := range parseHierarchies(mountinfo) {
			for _, folder := range h.folders(parseGroup(cgroup, h.v2)) {
				if folder != h.at && h.at != "/" && !strings.HasPrefix(folder, h.at+"/") || path.Clean(folder) != folder {
					t.Errorf("%+v leads to %q", h, folder)
				}
			}
		}
		l := limit{max: math.MaxInt64}
		if n, ok := parseBytes(most); ok {
			l.max = n
		}
		l.used, _ = parseBytes(used)
		l.used = max(0, l.used-parseStat(stat, "inactive_file"))
		m := Memory{Total: 24 * gib, Available: 16 * gib}
		if got := m.within([]limit{l, {max: 8 * gib, used: gib}}); got.Total < 0 || got.Total > 8*gib || got.Available < 0 || got.Available > 7*gib {
			t.Errorf("%+v leaves %+v", l, got)
		}
	})
}
