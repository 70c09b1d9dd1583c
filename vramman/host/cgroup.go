package host

import (
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// This file finds the limits that control groups put on this process and its
// children (cgroups(7); the kernel's admin-guide/cgroup-v2.rst and
// cgroup-v1/memory.rst).

// hierarchy is a file system of control groups that keeps account of memory.
type hierarchy struct {
	root string // the group that is at the mount's own folder
	at   string // where it is mounted
	v2   bool
}

// parseHierarchies finds them in /proc/self/mountinfo (proc_pid_mountinfo(5)).
// Lines that are not of that form are left out.
func parseHierarchies(mountinfo string) []hierarchy {
	var found []hierarchy
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		dash := slices.Index(f, "-")
		// Before the dash stand six fields and any number of optional ones, after
		// it the type, the source and the options.
		if dash < 6 || len(f) < dash+4 || !path.IsAbs(f[3]) || !path.IsAbs(f[4]) {
			continue
		}
		h := hierarchy{root: path.Clean(unescape.Replace(f[3])), at: path.Clean(unescape.Replace(f[4]))}
		switch f[dash+1] {
		case "cgroup2":
			h.v2 = true
		case "cgroup":
			if !slices.Contains(strings.Split(f[dash+3], ","), "memory") {
				continue
			}
		default:
			continue
		}
		found = append(found, h)
	}
	return found
}

// unescape undoes how the kernel writes letters that would end a field.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// parseGroup finds this process's group in /proc/self/cgroup: that of version 2,
// or that of version 1's controller of memory. Empty: there is none.
func parseGroup(cgroup string, v2 bool) string {
	for line := range strings.Lines(cgroup) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 || !path.IsAbs(f[2]) {
			continue
		}
		if v2 && f[0] == "0" && f[1] == "" || !v2 && slices.Contains(strings.Split(f[1], ","), "memory") {
			return path.Clean(f[2])
		}
	}
	return ""
}

// folders are those of a group and of those that it is in, as far as they can be
// seen, the innermost first. A group that lies outside of what is mounted, as in
// a container that shares the host's, is taken for the mounted one.
func (h hierarchy) folders(group string) []string {
	rest, below := strings.CutPrefix(group, strings.TrimSuffix(h.root, "/"))
	if !below || rest != "" && rest[0] != '/' {
		rest = ""
	}
	var list []string
	for {
		list = append(list, path.Join(h.at, rest))
		if rest == "" || rest == "/" {
			return list
		}
		rest = path.Dir(rest)
	}
}

// limits reads the limits of all groups that this process is in. What cannot be
// read does not limit.
func limits(root fs.FS) []limit {
	mountinfo, _ := fs.ReadFile(root, "proc/self/mountinfo")
	cgroup, _ := fs.ReadFile(root, "proc/self/cgroup")
	var found []limit
	for _, h := range parseHierarchies(string(mountinfo)) {
		group := parseGroup(string(cgroup), h.v2)
		if group == "" {
			continue
		}
		for _, folder := range h.folders(group) {
			if l, ok := h.limit(root, folder); ok {
				found = append(found, l)
			}
		}
	}
	return found
}

// limit reads the limit of one group; false if there is none.
func (h hierarchy) limit(root fs.FS, folder string) (limit, bool) {
	read := func(name string) string {
		text, _ := fs.ReadFile(root, strings.TrimPrefix(path.Join(folder, name), "/"))
		return string(text)
	}
	files := struct{ max, used, cache string }{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}
	if h.v2 {
		files.max, files.used, files.cache = "memory.max", "memory.current", "inactive_file"
	}
	most, ok := parseBytes(read(files.max))
	if !ok {
		return limit{}, false
	}
	used, _ := parseBytes(read(files.used))
	return limit{max: most, used: max(0, used-parseStat(read("memory.stat"), files.cache))}, true
}

// parseBytes reads a number of bytes; false if there is none, as in "max".
func parseBytes(text string) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return n, err == nil && n >= 0
}

// parseStat reads one figure of memory.stat; 0 if it is not there.
func parseStat(text, name string) int64 {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			n, _ := parseBytes(rest)
			return max(0, n)
		}
	}
	return 0
}
