// This file owns what is brought onto the machine before a start: the image, and
// with it the weights.

package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// Fetch pulls the image if Docker has not got it, and runs the launch's fetch
// command in it, without a GPU and with the caches that servers have. What was
// fetched once is not fetched again while this engine is open. When ctx ends, so
// do the pull and the command; both go on later from where they were. At the end
// it rehearses the start, see [Engine.rehearse].
func (e *Engine) Fetch(ctx context.Context, l *engine.Launch) error {
	ctx, end, err := e.begin(ctx)
	if err != nil {
		return fmt.Errorf("docker engine: fetch for %s: %w", l.ID, err)
	}
	defer end()
	err = e.fetch(ctx, l)
	if err == nil {
		err = e.rehearse(ctx, l)
	}
	if err != nil {
		return fmt.Errorf("docker engine: fetch for %s: %w", l.ID, cmp.Or(context.Cause(ctx), err))
	}
	return nil
}

func (e *Engine) fetch(ctx context.Context, l *engine.Launch) error {
	progress := l.Progress
	if progress == nil {
		progress = func(string) {}
	}
	image := cmp.Or(l.Image, e.spec.Image)
	if image == "" {
		return errNoImage
	}
	imageID, err := e.bring(ctx, image, progress)
	if err != nil {
		return err
	}
	if len(l.FetchCommand) == 0 || e.spec.Cache == "" {
		return nil // what a container fetched without a cache would go with it
	}
	key := fetchKey(imageID, l.FetchCommand)
	e.mu.Lock()
	known := e.fetched[key]
	e.mu.Unlock()
	if known {
		return nil
	}
	progress("fetching weights")
	err = e.runFetcher(ctx, l, progress)
	if isMissingProgram(err) {
		e.sayOnce(imageID, image, l.FetchCommand[0])
		err = nil
	}
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.fetched[key] = true
	e.mu.Unlock()
	return nil
}

// fetchKey is the same for fetches that bring the same.
func fetchKey(imageID string, command []string) string {
	return imageID + "\x00" + strings.Join(command, "\x00")
}

// sayOnce tells once for each image that it cannot fetch by itself.
func (e *Engine) sayOnce(imageID, image, program string) {
	e.mu.Lock()
	said := e.fetchers[imageID]
	e.fetchers[imageID] = true
	e.mu.Unlock()
	if !said {
		e.log.Info("the image lacks the program that fetches weights ahead of a start: servers fetch them themselves, while they hold their cards",
			zap.String("image", image), zap.String("program", program))
	}
}

// runFetcher runs the fetch command to its end.
func (e *Engine) runFetcher(ctx context.Context, l *engine.Launch, progress func(string)) error {
	networkID, err := e.network(ctx)
	if err != nil {
		return err
	}
	container, err := e.create(ctx, e.spec.fetcher(l, networkID))
	if err != nil {
		return err
	}
	status, last, err := e.runToEnd(ctx, container, l.Output, progress)
	if removed := e.discard(container, ""); removed != nil {
		err = errors.Join(err, removed)
	}
	switch {
	case err != nil:
		return err
	case status != 0:
		return fetchFailure(l.FetchCommand[0], status, last)
	}
	return nil
}

// runToEnd starts a container, hands on its lines and what they tell of its
// progress, and returns its exit status and its last line.
func (e *Engine) runToEnd(ctx context.Context, container string, output, progress func(string)) (status int, last string, err error) {
	if err := e.daemon.start(ctx, container); err != nil {
		return 0, "", err
	}
	said := ""
	state := func(line string) {
		if stage := fetchStage(line); stage != "" && stage != said {
			said = stage
			progress(stage)
		}
	}
	line := func(line string) {
		last = line
		state(line)
		if output != nil {
			output(line)
		}
	}
	var since time.Time
	if err := copyLines(ctx, e.daemon, container, &since, line, state); err != nil && ctx.Err() == nil {
		// What it prints is not what matters.
		e.log.Debug("the output of a fetch cannot be read", zap.Error(err))
	}
	status, err = e.daemon.wait(ctx, container)
	return status, last, err
}

// bar is a state of a progress bar as Python's tqdm draws it, with which the
// Hugging Face client shows its progress: "model.safetensors:  34%|███▍ | …".
var bar = regexp.MustCompile(`^(.{0,100}?):?\s+(\d{1,3})%\|`)

// fetchStage is what a line tells of a fetch's progress, or empty.
func fetchStage(line string) string {
	m := bar.FindStringSubmatch(line)
	if m == nil {
		return ""
	}
	if m[1] == "" {
		return "fetching weights, " + m[2] + " %"
	}
	return "fetching weights: " + m[1] + ", " + m[2] + " %"
}

// fetchCauses are the failures of the Hugging Face client that users meet
// (huggingface_hub/errors.py, and requests and httpx below it).
var fetchCauses = []cause{
	{[]string{"gatedrepo"}, "the repository is gated: accept its licence on Hugging Face, and set HF_TOKEN in the engine's environment to a token of that account"},
	{[]string{"gated repo"}, "the repository is gated: accept its licence on Hugging Face, and set HF_TOKEN in the engine's environment to a token of that account"},
	{[]string{"repository not found"}, "there is no such repository on Hugging Face, or it is private: correct 'repo', or set HF_TOKEN in the engine's environment"},
	{[]string{"repositorynotfound"}, "there is no such repository on Hugging Face, or it is private: correct 'repo', or set HF_TOKEN in the engine's environment"},
	{[]string{"401 client error"}, "Hugging Face refuses the token: set HF_TOKEN in the engine's environment to a valid one"},
	{[]string{"invalid user token"}, "Hugging Face refuses the token: set HF_TOKEN in the engine's environment to a valid one"},
	{[]string{"revisionnotfound"}, "the repository has no such revision"},
	{[]string{"no space left on device"}, diskFull},
	{[]string{"exec format error"}, wrongCPU},
	{[]string{"name resolution"}, unreachableHub},
	{[]string{"name or service not known"}, unreachableHub},
	{[]string{"connection refused"}, unreachableHub},
	{[]string{"connecterror"}, unreachableHub},
	{[]string{"max retries exceeded"}, unreachableHub},
	{[]string{"timed out"}, unreachableHub},
	{[]string{"offline"}, "the client is told to be offline and the weights are not all there: remove HF_HUB_OFFLINE from the environment"},
	{[]string{"permission denied"}, "the cache cannot be written: give the image's user the right to, or set another 'cache'"},
}

const unreachableHub = "Hugging Face cannot be reached from a container: check the host's network and name service, or set HTTPS_PROXY in the engine's environment"

// fetchFailure says what the fetch command's end means.
func fetchFailure(program string, status int, last string) error {
	if status == killed {
		return fmt.Errorf("fetching the weights failed: %s was killed; did the host run out of memory?", program)
	}
	why := fmt.Sprintf("%s ended with exit status %d", program, status)
	if c, ok := find(fetchCauses, last); ok {
		return fmt.Errorf("fetching the weights failed: %s (%s; its last line: %s)", c.say, why, last)
	}
	if last == "" {
		// Docker keeps what is printed on a disk, too.
		return fmt.Errorf("fetching the weights failed: %s and printed nothing; is the disk full?", why)
	}
	return fmt.Errorf("fetching the weights failed: %s; its last line: %s", why, last)
}
