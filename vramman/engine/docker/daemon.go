// This file owns the conversation with Docker: each call of the Engine API that
// the engine needs, in the engine's own types and with errors that explain
// themselves.

package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// daemon is a connection to Docker. The version of the API is negotiated: from
// Docker 19.03 on, every one serves.
type daemon struct {
	api *client.Client
}

// connect asks the Docker at host, or the one that the environment names,
// whether it is there.
func connect(ctx context.Context, host string) (*daemon, error) {
	options := []client.Opt{client.FromEnv}
	if host != "" {
		options = append(options, client.WithHost(host))
	}
	api, err := client.New(options...)
	if err != nil {
		return nil, fmt.Errorf("the address of Docker cannot be used, set 'host' or DOCKER_HOST to one such as unix:///var/run/docker.sock: %w", err)
	}
	d := &daemon{api}
	if _, err := api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return nil, errors.Join(explain(err), d.close())
	}
	return d, nil
}

// ping asks whether Docker answers.
func (d *daemon) ping(ctx context.Context) error {
	_, err := d.api.Ping(ctx, client.PingOptions{})
	return explain(err)
}

// isLocal says whether Docker is on this host.
func (d *daemon) isLocal() bool { return strings.HasPrefix(d.api.DaemonHost(), "unix://") }

func (d *daemon) close() error { return d.api.Close() }

// isMissing says whether what the call was about does not exist.
func isMissing(err error) bool { return errdefs.IsNotFound(err) }

// create makes a container and returns its ID.
func (d *daemon) create(ctx context.Context, c *blueprint) (string, error) {
	made, err := d.api.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: c.name, Config: &c.config, HostConfig: &c.host,
	})
	return made.ID, explain(err)
}

func (d *daemon) start(ctx context.Context, id string) error {
	_, err := d.api.ContainerStart(ctx, id, client.ContainerStartOptions{})
	return explain(err)
}

// stop asks a container to end, has it killed after grace, and returns when it
// has ended. To one that has ended already, or is gone, it does nothing.
func (d *daemon) stop(ctx context.Context, id string, grace time.Duration) error {
	seconds := int((grace + time.Second - 1) / time.Second) // the API knows whole ones only
	_, err := d.api.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: &seconds})
	if isMissing(err) {
		return nil
	}
	return explain(err)
}

// kill ends a container at once. To one that has ended it does nothing.
func (d *daemon) kill(ctx context.Context, id string) error {
	_, err := d.api.ContainerKill(ctx, id, client.ContainerKillOptions{})
	if isMissing(err) || errdefs.IsConflict(err) {
		return nil
	}
	return explain(err)
}

// remove removes a container, running or not, with its anonymous volumes. One
// that is gone, or that is being removed by somebody else, is no error.
func (d *daemon) remove(ctx context.Context, id string) error {
	_, err := d.api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if isMissing(err) || errdefs.IsConflict(err) {
		return nil
	}
	return explain(err)
}

// state is what Docker knows of a container.
type state struct {
	id        string
	labels    map[string]string
	running   bool
	exitCode  int
	oom       bool
	addresses map[string]netip.Addr // by network
	published netip.AddrPort        // where the server's port is, if it is published
}

// container is all that Docker says of a container.
func (d *daemon) container(ctx context.Context, id string) (container.InspectResponse, error) {
	r, err := d.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	return r.Container, explain(err)
}

func (d *daemon) inspect(ctx context.Context, id string) (state, error) {
	r, err := d.container(ctx, id)
	if err != nil {
		return state{}, err
	}
	s := state{id: r.ID, addresses: make(map[string]netip.Addr)}
	if c := r.Config; c != nil {
		s.labels = c.Labels
	}
	if c := r.State; c != nil {
		s.running, s.exitCode, s.oom = c.Running, c.ExitCode, c.OOMKilled
	}
	if n := r.NetworkSettings; n != nil {
		for _, endpoint := range n.Networks {
			s.addresses[endpoint.NetworkID] = endpoint.IPAddress
		}
		for _, b := range n.Ports[port] {
			if p, err := strconv.ParseUint(b.HostPort, 10, 16); err == nil && b.HostIP.Is4() {
				s.published = netip.AddrPortFrom(b.HostIP, uint16(p))
			}
		}
	}
	return s, nil
}

// listed is a container in a list, or a network.
type listed struct {
	id, name string
	labels   map[string]string
	alive    bool // it has processes
}

// list finds the containers, running or not, that bear all the labels.
func (d *daemon) list(ctx context.Context, labels map[string]string) ([]listed, error) {
	r, err := d.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: labelled(labels)})
	if err != nil {
		return nil, explain(err)
	}
	var found []listed
	for _, c := range r.Items {
		name := c.ID
		if len(c.Names) > 0 {
			name = c.Names[0][1:] // they begin with a slash
		}
		alive := c.State == container.StateRunning || c.State == container.StatePaused || c.State == container.StateRestarting
		found = append(found, listed{id: c.ID, name: name, labels: c.Labels, alive: alive})
	}
	return found, nil
}

func labelled(labels map[string]string) client.Filters {
	f := make(client.Filters)
	for name, value := range labels {
		f.Add("label", name+"="+value)
	}
	return f
}

// pids are the host's numbers of a container's processes; none if it has ended.
// Docker has the host's ps count them, so they are the host's wherever the
// gateway is. What they are compared with need not be: NVIDIA's driver and the
// kernel's file locks, by which simulated cards go, number processes as whoever
// asks sees them, and hide those of other containers. See [self.hostPID].
func (d *daemon) pids(ctx context.Context, id string) ([]int, error) {
	r, err := d.api.ContainerTop(ctx, id, client.ContainerTopOptions{Arguments: []string{"-eo", "pid"}})
	if isMissing(err) || errdefs.IsConflict(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(err)
	}
	column := slices.Index(r.Titles, "PID")
	if column < 0 {
		return nil, fmt.Errorf("docker's list of processes has no column PID, but %q", r.Titles)
	}
	pids := make([]int, 0, len(r.Processes))
	for _, p := range r.Processes {
		pid, err := strconv.Atoi(p[column])
		if err != nil {
			return nil, fmt.Errorf("docker's list of processes: %w", err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// logs opens a container's output, from its first line or from a moment on,
// until it ends. Both streams are in it, in Docker's own framing.
func (d *daemon) logs(ctx context.Context, id string, since time.Time) (io.ReadCloser, error) {
	options := client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: true}
	if !since.IsZero() {
		options.Since = stamp(since)
	}
	r, err := d.api.ContainerLogs(ctx, id, options)
	return r, explain(err)
}

// stamp writes a moment as the API takes it.
func stamp(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }

// wait returns a container's exit status once it has ended.
func (d *daemon) wait(ctx context.Context, id string) (int, error) {
	r := d.api.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case end := <-r.Result:
		if end.Error != nil {
			return 0, explain(errors.New(end.Error.Message))
		}
		return int(end.StatusCode), nil
	case err := <-r.Error:
		return 0, explain(err)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// event is something that happened to a container of this gateway.
type event struct {
	container string
	oom       bool // it ran out of memory; otherwise it has died
	exitCode  int  // of one that has died
	at        time.Time
}

// events calls each with what happens to a gateway's containers from a moment
// on. Before that it calls look, which looks at what happened earlier, and then
// connected. It returns why it hears nothing more.
func (d *daemon) events(ctx context.Context, gateway string, since time.Time, look func() error, connected func(), each func(event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the client's goroutine
	filters := labelled(map[string]string{labelGateway: gateway}).
		Add("type", string(events.ContainerEventType)).
		Add("event", string(events.ActionDie), string(events.ActionOOM))
	r := d.api.Events(ctx, client.EventsListOptions{Since: stamp(since), Filters: filters})
	if err := look(); err != nil {
		return err
	}
	select {
	case err := <-r.Err:
		return refused(explain(err))
	default:
	}
	connected()
	for {
		select {
		case m := <-r.Messages:
			e := event{container: m.Actor.ID, oom: m.Action == events.ActionOOM, at: time.Unix(0, m.TimeNano)}
			if e.exitCode = -1; m.Action == events.ActionDie {
				if code, err := strconv.Atoi(m.Actor.Attributes["exitCode"]); err == nil {
					e.exitCode = code
				}
			}
			each(e)
		case err := <-r.Err:
			return explain(err)
		}
	}
}

// refusal is an answer that Docker, or a proxy in front of it, does not do what
// it is asked to, today or tomorrow.
type refusal struct{ error }

func (r *refusal) Unwrap() error { return r.error }

// refused marks an error that is a refusal as one.
func refused(err error) error {
	if errdefs.IsPermissionDenied(err) || errdefs.IsUnauthorized(err) || errdefs.IsNotImplemented(err) {
		return &refusal{err}
	}
	return err
}

// imageID is the digest that names an image's content; empty if Docker does
// not have the image.
func (d *daemon) imageID(ctx context.Context, image string) (string, error) {
	r, err := d.api.ImageInspect(ctx, image)
	if isMissing(err) {
		return "", nil
	}
	return r.ID, explain(err)
}

// bridge is a network, as far as the engine looks at it.
type bridge struct {
	id      string
	driver  string
	ours    bool // made by a gateway
	open    bool // containers on it can reach one another
	created time.Time
}

// bridges are the networks of exactly that name, the oldest first. Docker before
// version 25 can have several.
func (d *daemon) bridges(ctx context.Context, name string) ([]bridge, error) {
	r, err := d.api.NetworkList(ctx, client.NetworkListOptions{Filters: make(client.Filters).Add("name", name)})
	if err != nil {
		return nil, explain(err)
	}
	var found []bridge
	for _, n := range r.Items {
		if n.Name == name { // the filter is content with a part of it
			found = append(found, bridge{
				id: n.ID, driver: n.Driver, ours: n.Labels[labelNetwork] != "",
				open: n.Options[optionICC] != "false", created: n.Created,
			})
		}
	}
	slices.SortFunc(found, func(a, b bridge) int { return a.created.Compare(b.created) })
	return found, nil
}

// optionICC is the option of a bridge that lets containers reach one another.
const optionICC = "com.docker.network.bridge.enable_icc"

// createBridge makes a network on which containers cannot reach one another.
func (d *daemon) createBridge(ctx context.Context, name string) error {
	_, err := d.api.NetworkCreate(ctx, name, client.NetworkCreateOptions{
		Driver:  "bridge",
		Options: map[string]string{optionICC: "false"},
		Labels:  map[string]string{labelNetwork: format},
	})
	if errdefs.IsConflict(err) { // somebody else was faster
		return nil
	}
	return explain(err)
}

// removeBridge removes a network unless a container is on it.
func (d *daemon) removeBridge(ctx context.Context, id string) error {
	_, err := d.api.NetworkRemove(ctx, id, client.NetworkRemoveOptions{})
	if isMissing(err) || errdefs.IsPermissionDenied(err) || isInUse(err) {
		return nil
	}
	return explain(err)
}

// port is where servers listen in their containers.
var port = network.MustParsePort("8000/tcp")
