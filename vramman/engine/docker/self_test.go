package docker

import (
	"net/netip"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
)

const (
	idA = "d9d88342e9bfb1944adf9bac06d88a5b0844c5cf9254aa9e9595d62f2e39cc19"
	idB = "a5e7615bca3a1d9f13ed4036d4c3c920086287d392bcf79442d174246b362e8d"
)

// mountLine is a line of /proc/self/mountinfo.
func mountLine(root, at string) string {
	return "92 75 254:0 " + root + " " + at + " rw,relatime master:1 - ext4 /dev/vda rw,discard\n"
}

// own are the lines of the files that Docker mounts into a container.
func own(folder, id string) string {
	var lines string
	for _, name := range []string{"resolv.conf", "hostname", "hosts"} {
		lines += mountLine(path.Join(folder, id, name), "/etc/"+name)
	}
	return lines
}

const overlayRoot = "75 48 0:41 / / rw,relatime master:4 - overlay none rw,lowerdir=/var/lib/docker/overlay2/l/ABC,upperdir=/var/lib/docker/overlay2/" + idB + "/diff\n"

// A container is known by any of the ways in which one shows where it is.
func TestCandidates(t *testing.T) {
	for _, c := range []struct {
		name, mountinfo, cgroup, hostname string
		want                              []string
	}{
		{"a host", overlayRoot, "0::/user.slice/user-1000.slice\n", "server", nil},
		{"a host that runs containers", mountLine("/", "/var/lib/docker/containers/"+idA+"/mounts/shm") + mountLine("net:[4026532182]", "/run/docker/netns/cef3f9e98fb1"), "0::/\n", "server", nil},
		{"control groups v1", overlayRoot, "9:name=systemd:/docker/" + idA + "\n8:pids:/docker/" + idA + "\n0::/\n", "gateway", []string{idA}},
		{"control groups v1 by systemd", overlayRoot, "4:memory:/system.slice/docker-" + idA + ".scope\n", "gateway", []string{idA}},
		{"control groups v2 of the host", overlayRoot, "0::/system.slice/docker-" + idA + ".scope\n", "gateway", []string{idA}},
		{"control groups v2 of its own", overlayRoot + own("/var/lib/docker/containers", idA), "0::/\n", "gateway", []string{idA}},
		{"Docker's folder a file system of its own", own("/containers", idA), "0::/\n", "gateway", []string{idA}},
		{"a Docker without root", own("/home/u/.local/share/docker/containers", idA), "0::/\n", "gateway", []string{idA}},
		{"a container in a container", "", "5:devices:/docker/" + idB + "/docker/" + idA + "\n", "gateway", []string{idB, idA}},
		{"another container's network", own("/var/lib/docker/containers", idB), "1:cpu:/docker/" + idA + "\n", idB[:12], []string{idA, idB, idB[:12]}},
		{"the name alone", "", "", idA[:12], []string{idA[:12]}},
		{"a name that is no ID", "", "", "gateway-main", nil},
		{"Kubernetes", "", "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + idA + ".scope\n", "gateway-7d9c", nil},
		{"rubbish", "1 2 3\n\n4 5 6 7 8\n", "::\n:\nx\n", "", nil},
	} {
		if got := candidates(c.cgroup, parseMountinfo(c.mountinfo), c.hostname); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzCandidates(f *testing.F) {
	f.Add(overlayRoot+own("/var/lib/docker/containers", idA), "9:name=systemd:/docker/"+idB+"\n0::/\n", idA[:12])
	f.Add(own("/containers", idA), "0::/system.slice/docker-"+idA+".scope\n", "gateway")
	f.Add(mountLine(`/a\040b\134`, `/c\011d`), "0::/\n", "")
	f.Add("42 27 254:0\n- - - - -", ":::\n::", "000000000000")
	f.Fuzz(func(t *testing.T, mountinfo, cgroup, hostname string) {
		files := parseMountinfo(mountinfo)
		for _, m := range files {
			if !path.IsAbs(m.root) || !path.IsAbs(m.at) {
				t.Errorf("%+v is no mount", m)
			}
		}
		ids := candidates(cgroup, files, hostname)
		for i, id := range ids {
			if !isHex(id) || len(id) != 64 && len(id) != shortID || slices.Contains(ids[:i], id) {
				t.Errorf("%q are no candidates", ids)
			}
		}
	})
}

// What Docker says of a container decides, not its ID.
func TestAgrees(t *testing.T) {
	described := func(change func(*container.InspectResponse)) container.InspectResponse {
		c := container.InspectResponse{
			ID: idA, State: &container.State{Running: true}, Config: &container.Config{Hostname: "gateway"},
			HostnamePath: "/var/lib/docker/containers/" + idA + "/hostname",
			NetworkSettings: &container.NetworkSettings{Networks: map[string]*network.EndpointSettings{
				"n": {IPAddress: netip.MustParseAddr("172.18.0.2")},
			}},
		}
		change(&c)
		return c
	}
	same := func(*container.InspectResponse) {}
	files := parseMountinfo(own("/containers", idA))
	here := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("172.18.0.2")}
	for _, c := range []struct {
		name   string
		view   view
		change func(*container.InspectResponse)
		want   bool
	}{
		{"its files", view{files: files, hostname: "other"}, same, true},
		{"its name and address", view{hostname: "gateway", addresses: here}, same, true},
		{"its name alone", view{hostname: "gateway", addresses: here[:1]}, same, false},
		{"its address alone", view{hostname: "host", addresses: here}, same, false},
		{"another's files", view{files: parseMountinfo(own("/containers", idB))}, same, false},
		{"files of the image", view{files: parseMountinfo(mountLine("/", "/etc/hostname"))}, same, false},
		{"it does not run", view{files: files}, func(c *container.InspectResponse) { c.State.Running = false }, false},
		{"nothing is known", view{}, func(c *container.InspectResponse) { *c = container.InspectResponse{} }, false},
	} {
		if got := c.view.agrees(described(c.change)); got != c.want {
			t.Errorf("%s: got %t", c.name, got)
		}
	}
}

func TestHere(t *testing.T) {
	s := &self{mounts: []container.MountPoint{
		{Type: mount.TypeBind, Source: "/srv", Destination: "/host"},
		{Type: mount.TypeBind, Source: "/srv/models/hub", Destination: "/hub"},
		{Type: mount.TypeVolume, Name: "weights", Source: "/var/lib/docker/volumes/weights/_data", Destination: "/weights"},
	}}
	for store, want := range map[string]string{
		"/srv": "/host", "/srv/": "/host", "/srv/models": "/host/models", "/srv/models/hub": "/hub", "/srv/models/hub/a": "/hub/a",
		"/srv/models/hubs": "/host/models/hubs", "/srve": "", "/": "", "weights": "/weights", "other": "",
	} {
		if got := s.here(store); got != want {
			t.Errorf("%s is at %q, want %q", store, got, want)
		}
	}
	root := &self{mounts: []container.MountPoint{{Type: mount.TypeBind, Source: "/", Destination: "/rootfs"}}}
	if got := root.here("/srv/x"); got != "/rootfs/srv/x" {
		t.Errorf("got %q", got)
	}
}

func TestCache(t *testing.T) {
	me := &self{mounts: []container.MountPoint{{Type: mount.TypeBind, Source: "/srv", Destination: "/here"}}}
	for _, c := range []struct {
		name string
		spec Spec
		self *self
		want string
	}{
		{"none", Spec{}, me, ""},
		{"said", Spec{Cache: "/srv/hf", CacheHere: "/x"}, me, "/x"},
		{"found", Spec{Cache: "/srv/hf"}, me, "/here/hf"},
		{"not mounted", Spec{Cache: "/root/hf"}, me, ""},
		{"a volume that the gateway sees on the host", Spec{Cache: "weights", CacheHere: "/x"}, nil, "/x"},
	} {
		if got := (&Engine{spec: c.spec, self: c.self}).Cache(); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// This test, which is on Docker's host or in a container of another one, is in
// none; a process that has the view of a container is in that one, and not once
// it has ended.
func TestFindSelf(t *testing.T) {
	r := newRig(t)
	d := &daemon{r.api}
	id := foreign(t, r, r.gateway+"-me", nil)
	c := inspect(t, r, id).Container
	v := view{files: parseMountinfo(own(path.Dir(path.Dir(c.HostnamePath)), id)), ids: []string{strings.Repeat("0", 64), id}}
	me, err := d.findSelf(t.Context(), v)
	if err != nil || me == nil || me.id != id || me.network != id || me.hostPID {
		t.Errorf("got %+v: %v", me, err)
	}
	if me, err := d.findSelf(t.Context(), view{ids: v.ids}); me != nil || err != nil {
		t.Errorf("by the ID alone: %+v: %v", me, err)
	}
	if err := d.kill(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := d.wait(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if me, err := d.findSelf(t.Context(), v); me != nil || err != nil {
		t.Errorf("once it has ended: %+v: %v", me, err)
	}
}
