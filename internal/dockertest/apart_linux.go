// This file owns the world of its own that a test with a Docker of its own runs
// in: what two Dockers of one host would fight about is there twice.

package dockertest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// apartVar holds the name of the test that runs apart, in the process where it
// does.
const apartVar = "DOCKERTEST_APART"

// Apart begins a test, not a subtest, that is to run apart from the host: with
// network, mounts and processes of its own, so that it may start daemons, fill
// disks and break firewalls, and with an empty /run, so that the host's Docker is
// out of reach. Everything that it starts or mounts ends with it, however it ends.
//
// Apart runs the test once more in such a process, where it returns true. In the
// first process it takes over the outcome and returns false; the test has nothing
// more to do there. Where the world cannot be made the test is skipped, or fails
// if REQUIRE_DOCKER is 1.
func Apart(t *testing.T) bool {
	t.Helper()
	if os.Getenv(apartVar) == t.Name() {
		if err := settle(); err != nil {
			t.Fatalf("the test's own world: %v", err)
		}
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("only root can have a Docker of its own")
	}
	if _, err := exec.LookPath("unshare"); err != nil {
		Missing(t, "no unshare: install util-linux: %v", err)
	}
	// The flags of the shape that the test itself is given below.
	namespaces := []string{"--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL"}
	if out, err := exec.CommandContext(t.Context(), "unshare", append(namespaces, "true")...).CombinedOutput(); err != nil {
		Missing(t, "this machine allows no namespaces: %v: %s", err, out)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The shell is the first process of the world, which inherits those whose
	// parents die, and waits for them as this program would not.
	args := append(namespaces, "sh", "-c", `"$@"; exit $?`, "sh",
		exe, "-test.v", "-test.count=1", "-test.run=^"+regexp.QuoteMeta(t.Name())+"$")
	if deadline, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+(time.Until(deadline)*9/10).String())
	}
	cmd := exec.CommandContext(t.Context(), "unshare", args...)
	cmd.Env = append(os.Environ(), apartVar+"="+t.Name(), "TMPDIR="+shortDir(t))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// When this process dies, so does unshare, with it the shell, and with that,
	// the first of its namespace, everything in there. The kernel looks at the
	// thread that has started unshare.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	err = cmd.Run()
	runtime.UnlockOSThread()
	said := out.String()
	switch {
	case err != nil:
		t.Fatalf("apart: %v\n%s", err, said)
	case strings.Contains(said, "--- SKIP: "+t.Name()+" "):
		t.Skipf("apart:\n%s", said)
	case !strings.Contains(said, "--- PASS: "+t.Name()+" "):
		t.Fatalf("apart it did not run:\n%s", said)
	case testing.Verbose():
		t.Logf("apart:\n%s", said)
	}
	return false
}

// shortDir is a folder that goes with the test, with a name short enough for
// sockets below it.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "apart") //nolint:usetesting // the name of t.TempDir is as long as that of the test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// settle makes of new namespaces a world that a Docker can live in.
func settle() error {
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("the loopback interface: %w", err)
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("an empty /run: %w", err)
	}
	// A daemon's configuration and keys.
	if err := syscall.Mount("tmpfs", "/etc/docker", "tmpfs", 0, "mode=755"); err != nil && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("an empty /etc/docker: %w", err)
	}
	for _, name := range []string{"DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_API_VERSION"} {
		if err := os.Unsetenv(name); err != nil {
			return err
		}
	}
	return nil
}

// loopback is the number of the loopback interface, the first of each namespace.
const loopback = 1

// loopbackUp brings the loopback interface up, by a message of rtnetlink(7): a
// header of 16 bytes and a struct ifinfomsg.
func loopbackUp() error {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	const size = syscall.NLMSG_HDRLEN + syscall.SizeofIfInfomsg
	order := binary.NativeEndian
	m := make([]byte, 0, size)
	m = order.AppendUint32(m, size)
	m = order.AppendUint16(m, syscall.RTM_NEWLINK)
	m = order.AppendUint16(m, syscall.NLM_F_REQUEST|syscall.NLM_F_ACK)
	m = order.AppendUint32(m, 1) // the message's number
	m = order.AppendUint32(m, 0) // to the kernel
	m = order.AppendUint32(m, 0) // family and kind of the interface: any
	m = order.AppendUint32(m, loopback)
	m = order.AppendUint32(m, syscall.IFF_UP) // the flags,
	m = order.AppendUint32(m, syscall.IFF_UP) // and which of them to change
	if err := syscall.Sendto(fd, m, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := syscall.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < syscall.NLMSG_HDRLEN+4 || order.Uint16(answer[4:]) != syscall.NLMSG_ERROR {
		return fmt.Errorf("the kernel answers %x", answer[:n])
	}
	if code := -int32(order.Uint32(answer[syscall.NLMSG_HDRLEN:])); code != 0 {
		return syscall.Errno(code)
	}
	return nil
}
