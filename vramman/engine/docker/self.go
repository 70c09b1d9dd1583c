// This file owns how the gateway finds out that it is itself a container of the
// Docker that it talks to, and what follows from that.

package docker

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

// self is the container that the gateway runs in.
type self struct {
	id string
	// network is the container whose network the gateway has, mostly its own. It
	// is empty for a container with the host's network, which reaches servers as
	// the host itself does.
	network string
	mounts  []container.MountPoint // those that the gateway really sees
	hostPID bool                   // its process numbers are the host's
}

// view is what a process sees of where it is.
type view struct {
	hostname  string
	ids       []string // IDs and beginnings of IDs that its container may have, the surest first
	files     []mounted
	addresses []netip.Addr
}

// lookAround reads this process's view. What cannot be read, as on a system that is
// not Linux, stays empty: containers that the gateway could be in have it.
func lookAround() view {
	mountinfo, _ := os.ReadFile("/proc/self/mountinfo")
	cgroup, _ := os.ReadFile("/proc/self/cgroup")
	v := view{files: parseMountinfo(string(mountinfo))}
	v.hostname, _ = os.Hostname()
	v.ids = candidates(string(cgroup), v.files, v.hostname)
	interfaces, _ := net.InterfaceAddrs()
	for _, a := range interfaces {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			v.addresses = append(v.addresses, p.Addr().Unmap())
		}
	}
	return v
}

// findSelf returns the container that a process with the view is in; nil if it
// is in none of this Docker's. An ID alone proves little: a Docker inside the
// container would be another one, and a host may bear any name. So Docker must
// know the container, and what it says of it must be so here.
func (d *daemon) findSelf(ctx context.Context, v view) (*self, error) {
	for _, id := range v.ids {
		c, err := d.container(ctx, id)
		switch {
		case isMissing(err):
			continue
		case err != nil:
			return nil, fmt.Errorf("finding out whether the gateway is in a container: %w", err)
		case !strings.HasPrefix(c.ID, id) || !v.agrees(c):
			continue
		}
		s := &self{id: c.ID, hostPID: c.HostConfig != nil && c.HostConfig.PidMode.IsHost()}
		for _, m := range c.Mounts {
			if slices.ContainsFunc(v.files, func(f mounted) bool { return f.at == path.Clean(m.Destination) }) {
				s.mounts = append(s.mounts, m)
			}
		}
		s.network, err = d.networkOf(ctx, c)
		return s, err
	}
	return nil, nil
}

// agrees says whether what Docker says of a container is so here: it is the
// container's own files that lie at their places, or both its name and one of
// its addresses are this one's.
func (v view) agrees(c container.InspectResponse) bool {
	if c.State == nil || !c.State.Running {
		return false
	}
	for at, file := range map[string]string{"/etc/hostname": c.HostnamePath, "/etc/hosts": c.HostsPath, "/etc/resolv.conf": c.ResolvConfPath} {
		for _, f := range v.files {
			// A file system that is mounted at Docker's folder knows the end of
			// the path only.
			if f.at == at && file != "" && strings.HasSuffix(file, f.root) && strings.Contains(f.root, c.ID) {
				return true
			}
		}
	}
	if c.Config == nil || c.Config.Hostname != v.hostname || c.NetworkSettings == nil {
		return false
	}
	for _, e := range c.NetworkSettings.Networks {
		if e.IPAddress.IsValid() && slices.Contains(v.addresses, e.IPAddress.Unmap()) {
			return true
		}
	}
	return false
}

// networkOf is the container whose network a container has; empty if it is the
// host's.
func (d *daemon) networkOf(ctx context.Context, c container.InspectResponse) (string, error) {
	for range 8 { // Docker lets nobody make a circle
		if c.HostConfig == nil {
			break
		}
		mode := c.HostConfig.NetworkMode
		switch {
		case mode.IsHost():
			return "", nil
		case !mode.IsContainer():
			return c.ID, nil
		}
		var err error
		if c, err = d.container(ctx, mode.ConnectedContainer()); err != nil {
			return "", fmt.Errorf("the container whose network the gateway has: %w", err)
		}
	}
	return c.ID, nil
}

// here is where the gateway sees a folder of the host or a volume; empty if it
// does not.
func (s *self) here(store string) string {
	found, longest := "", -1
	for _, m := range s.mounts {
		switch {
		case m.Type == mount.TypeVolume && m.Name == store:
			return m.Destination
		case m.Type == mount.TypeBind && path.IsAbs(store):
			rest, ok := below(path.Clean(m.Source), path.Clean(store))
			if ok && len(m.Source) > longest {
				found, longest = path.Join(m.Destination, rest), len(m.Source)
			}
		}
	}
	return found
}

// below is the way from a folder to one below it, or to itself.
func below(folder, p string) (rest string, ok bool) {
	if folder == "/" || folder == p {
		return strings.TrimPrefix(p, folder), true
	}
	return strings.CutPrefix(p, folder+"/")
}

// mounted is one line of /proc/self/mountinfo: what of a file system is where.
type mounted struct{ root, at string }

// parseMountinfo reads /proc/self/mountinfo (proc_pid_mountinfo(5)). Lines that
// are not of that form are left out.
func parseMountinfo(text string) []mounted {
	var all []mounted
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) >= 5 && path.IsAbs(f[3]) && path.IsAbs(f[4]) {
			all = append(all, mounted{unescape.Replace(f[3]), unescape.Replace(f[4])})
		}
	}
	return all
}

// unescape undoes how the kernel writes letters that would end a field.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// candidates are the IDs that the container of a process may have, the surest
// first: by its control groups, by the files that Docker mounts into every
// container, by its name. With control groups of version 2 in a namespace of its
// own the first say nothing; in a container that has another's network the
// second are the other's; the third is whatever somebody chose.
func candidates(cgroup string, files []mounted, hostname string) []string {
	var ids []string
	note := func(id string) {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	for line := range strings.Lines(cgroup) {
		// hierarchy:controllers:path (cgroups(7)). Docker makes
		// /docker/<id> by itself and …/docker-<id>.scope through systemd.
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		for part := range strings.SplitSeq(f[2], "/") {
			part = strings.TrimSuffix(strings.TrimPrefix(part, "docker-"), ".scope")
			if isID(part) {
				note(part)
			}
		}
	}
	for _, f := range files {
		switch f.at {
		case "/etc/hostname", "/etc/hosts", "/etc/resolv.conf":
			if id := path.Base(path.Dir(f.root)); isID(id) {
				note(id)
			}
		}
	}
	if len(hostname) == shortID && isHex(hostname) {
		note(hostname)
	}
	return ids
}

// shortID is how many letters of its ID a container has for a name, unless it is
// given one.
const shortID = 12

func isID(s string) bool { return len(s) == 64 && isHex(s) }

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }
