// This file owns how an image gets to Docker, and how far that has come.

package docker

import (
	"context"
	"fmt"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
	"go.uber.org/zap"
)

// bring makes sure that Docker has an image, and returns its digest.
func (e *Engine) bring(ctx context.Context, image string, progress func(string)) (imageID string, err error) {
	if imageID, err = e.imageID(ctx, image); err != nil || imageID != "" {
		return imageID, err
	}
	e.log.Info("Docker does not have an image yet: pulling it", zap.String("image", image))
	progress("pulling " + image)
	if err := e.daemon.pull(ctx, image, progress); err != nil {
		return "", fmt.Errorf("pulling the image %s: %w", image, err)
	}
	imageID, err = e.imageID(ctx, image)
	if err == nil && imageID == "" {
		err = fmt.Errorf("the image %s was removed as soon as it was pulled: try again", image)
	}
	return imageID, err
}

// imageID is the digest of an image; empty if Docker does not have it.
func (e *Engine) imageID(ctx context.Context, image string) (string, error) {
	id, err := e.daemon.imageID(ctx, image)
	if err != nil {
		err = fmt.Errorf("the image %s: %w", image, err)
	}
	return id, err
}

// pull has Docker bring an image from its registry. When ctx ends, so does the
// pull; what has come by then need not come again.
func (d *daemon) pull(ctx context.Context, image string, progress func(string)) error {
	messages, err := d.api.ImagePull(ctx, image, client.ImagePullOptions{})
	if err != nil {
		return explainPull(err)
	}
	p := pulling{image: image}
	said := ""
	for m, err := range messages.JSONMessages(ctx) {
		switch {
		case err != nil:
			return explainPull(err)
		case m.Error != nil:
			return explainPull(m.Error)
		}
		if p.note(m); p.String() != said {
			said = p.String()
			progress(said)
		}
	}
	return ctx.Err()
}

// pulling is how far a pull has come. Docker tells it layer by layer, and of a
// layer's size only once it is on its way.
type pulling struct {
	image  string
	layers map[string]*layer
}

type layer struct {
	got, size  int64 // bytes, compressed
	downloaded bool
	unpacked   bool
}

// note takes one message of the pull.
func (p *pulling) note(m jsonstream.Message) {
	l := p.layers[m.ID]
	if l == nil {
		l = new(layer)
	}
	switch m.Status {
	case "Pulling fs layer", "Waiting":
	case "Downloading":
		if m.Progress != nil {
			l.got, l.size = m.Progress.Current, max(m.Progress.Total, m.Progress.Current)
		}
	case "Verifying Checksum", "Download complete", "Extracting":
		l.got, l.downloaded = l.size, true
	case "Pull complete", "Already exists":
		l.got, l.downloaded, l.unpacked = l.size, true, true
	default:
		return // of the image, not of a layer
	}
	if p.layers == nil {
		p.layers = make(map[string]*layer)
	}
	p.layers[m.ID] = l
}

// String says it in words for the user.
func (p *pulling) String() string {
	var got, size int64
	var layers float64 // as many as are downloaded, begun ones in part
	downloaded, unpacked := 0, 0
	for _, l := range p.layers {
		got, size = got+l.got, size+l.size
		switch {
		case l.downloaded:
			downloaded++
			layers++
		case l.size > 0:
			layers += float64(l.got) / float64(l.size)
		}
		if l.unpacked {
			unpacked++
		}
	}
	n := len(p.layers)
	switch {
	case n == 0 || unpacked == n:
		return "pulling " + p.image
	case downloaded == n:
		return fmt.Sprintf("unpacking %s, %d of %d layers", p.image, unpacked, n)
	}
	// Of layers yet to come the size is unknown, and of an image with one large
	// layer their number says little: what is further from done is nearer the truth.
	share := layers / float64(n)
	if size > 0 {
		share = min(share, float64(got)/float64(size))
	}
	return fmt.Sprintf("pulling %s, %d %%", p.image, int(share*100))
}
