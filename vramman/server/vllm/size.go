// This file says what a model takes before it has run.

package vllm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vllm-gateway/vllm-gateway/internal/hfcache"
	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

const (
	// hubRequest bounds one question to the hub, and hubReading all of them for
	// one model: somebody waits for the answer, and can do without.
	hubRequest = 5 * time.Second
	hubReading = 30 * time.Second
)

// Size implements [server.Sizer]. The model is read once, from the cache when
// it is whole there, else from the hub.
func (Server) Size(ctx context.Context, m server.Model, files server.Files, settings []server.Setting) []server.Sizing {
	ctx, cancel := context.WithTimeout(ctx, hubReading)
	defer cancel()
	model, identity, unread := readModel(ctx, m, files)
	l, refused := launch(m, files.Env)
	l.Server = cmp.Or(files.Image, m.Image)
	l.MaxModelLen = length(m.MaxModelLen, model.Native)

	sizings := make([]server.Sizing, len(settings))
	for i, s := range settings {
		l.TensorParallel, l.CardTotal, l.Card = s.Degree, s.Card.Total, s.Card.Name
		err := cmp.Or(refused, unread)
		if err == nil {
			sizings[i].Parts, err = footprint.Estimate(model.Config, model.Weights, l)
		}
		if err != nil {
			sizings[i] = server.Sizing{Parts: footprint.Unknown(identity, l), Err: cannot(err)}
		}
	}
	return sizings
}

// length is the context that vLLM serves when asked for so many tokens, 0 for
// what the model was made for: no more than that.
func length(asked, native int) int {
	if asked == 0 || native > 0 && native < asked {
		return native
	}
	return asked
}

// cannot makes an error a refusal to estimate.
func cannot(err error) error {
	if errors.Is(err, footprint.ErrCannot) {
		return err
	}
	return fmt.Errorf("%w, because %w", footprint.ErrCannot, err)
}

// readModel reads what the model's files say, and what identifies it: also
// where they cannot be read.
func readModel(ctx context.Context, m server.Model, files server.Files) (footprint.Model, []string, error) {
	repo, file := m.Repo, m.File
	if local(repo) && file == "" && namesFile(repo) {
		repo, file = path.Split(repo)
	}
	var best footprint.Model
	var identity []string
	var first error
	for _, open := range sources(ctx, repo, file, m, files) {
		src, err := open()
		if err == nil {
			var model footprint.Model
			if file == "" {
				model, err = footprint.Load(ctx, src)
			} else {
				model, err = footprint.LoadGGUF(ctx, src, file)
			}
			if identity == nil || err == nil {
				best, identity = model, identify(ctx, repo, file, src)
			}
			if err == nil {
				return best, identity, nil
			}
		}
		if first == nil || errors.Is(first, hfcache.ErrMissing) {
			first = err
		}
	}
	if identity == nil {
		identity = []string{repo, file, revision(m.Args)}
	}
	return best, identity, first
}

// identify names a version of a model: by its revision, or where there is none,
// as in a folder, by its files.
func identify(ctx context.Context, repo, file string, src footprint.Source) []string {
	identity := []string{repo, file, src.Revision()}
	if src.Revision() != "" {
		return identity
	}
	list, _ := src.Files(ctx) // without them the name has to do
	for _, f := range list {
		identity = append(identity, fmt.Sprintf("%s %d", f.Name, f.Size))
	}
	return identity
}

// sources are where the model may be read, the best first. What is whole in the
// cache is read there and the hub is not asked; what is not may still tell more
// than a hub that cannot be reached.
func sources(ctx context.Context, repo, file string, m server.Model, files server.Files) []func() (footprint.Source, error) {
	folder := func(path, revision string) func() (footprint.Source, error) {
		return func() (footprint.Source, error) { return footprint.NewFolder(path, revision), nil }
	}
	if local(repo) {
		return []func() (footprint.Source, error){folder(repo, "")}
	}
	wanted := revision(m.Args)
	var all []func() (footprint.Source, error)
	var snapshot hfcache.Snapshot
	err := hfcache.ErrMissing
	if files.Cache != "" {
		snapshot, err = hfcache.FindRevision(files.Cache, repo, cmp.Or(wanted, "main"))
	}
	cached := folder(snapshot.Folder, path.Base(snapshot.Folder)) // snapshots are named by their hashes
	if err != nil {
		missing := fmt.Errorf("%w, and the hub is not asked: it is known once the model was fetched", err)
		cached = func() (footprint.Source, error) { return nil, missing }
	} else if weightsIn(snapshot, file) {
		return append(all, cached)
	}
	if options, ok := hub(m, files); ok {
		all = append(all, func() (footprint.Source, error) {
			return footprint.NewHub(options).Open(ctx, repo, wanted)
		})
	}
	return append(all, cached)
}

// weightsIn says whether a snapshot has all that an estimate needs. Of a GGUF
// model that is its file.
func weightsIn(s hfcache.Snapshot, file string) bool {
	if file == "" {
		return s.Complete()
	}
	_, err := pickLocal(s.Folder, file)
	return err == nil
}

// hub is how the hub is asked, by the variables that the servers themselves go
// by; false when it is not to be asked and nothing is kept from before.
func hub(m server.Model, files server.Files) (footprint.HubOptions, bool) {
	o := footprint.HubOptions{Timeout: hubRequest, Cache: files.Keep}
	env := slices.Concat(files.Env, m.Env) // the model's own go before
	o.Endpoint = variable(env, "HF_ENDPOINT")
	o.Offline = files.Env == nil || truth(cmp.Or(variable(env, "HF_HUB_OFFLINE"), variable(env, "TRANSFORMERS_OFFLINE")))
	if !o.Offline {
		o.Token = cmp.Or(variable(env, "HF_TOKEN"), variable(env, "HUGGING_FACE_HUB_TOKEN"))
	}
	return o, !o.Offline || o.Cache != nil
}

// variable is the value of a variable of an environment, in which the last
// counts; empty when it is not there.
func variable(env []string, name string) string {
	for _, v := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// truth reads a variable that is a switch, as huggingface_hub does.
func truth(value string) bool {
	return slices.Contains([]string{"1", "ON", "YES", "TRUE"}, strings.ToUpper(value))
}

// Interface guard
var _ server.Sizer = Server{}
