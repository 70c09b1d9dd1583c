package footprint

// This file reads from the Hugging Face hub, or a mirror of it: a repository's
// list of files, and pieces of files by range requests.

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// DefaultHub is where models are, unless a mirror is configured.
	DefaultHub = "https://huggingface.co"
	// hubTimeout bounds one request, its answer included.
	hubTimeout = 10 * time.Second
	// maxListing bounds the list of a repository's files, in bytes.
	maxListing = 32 << 20
	maxHops    = 5
)

// HubOptions says how to reach the hub.
type HubOptions struct {
	Endpoint string        // the address of the hub; empty: DefaultHub
	Token    string        // a token for gated and private repositories; empty: none
	Timeout  time.Duration // of one request; 0: 10 s
	Offline  bool          // asks nothing, and answers from the cache alone
	Cache    Cache         // what was read before; nil: nothing is kept
	Client   *http.Client  // what asks; nil: one of its own
}

// Hub reads from the hub. It may be used by several goroutines.
type Hub struct {
	options HubOptions
	client  http.Client
}

// NewHub makes a hub. It asks nothing yet.
func NewHub(o HubOptions) *Hub {
	o.Endpoint = strings.TrimRight(cmp.Or(o.Endpoint, DefaultHub), "/")
	o.Timeout = cmp.Or(o.Timeout, hubTimeout)
	h := &Hub{options: o}
	if o.Client != nil {
		h.client = *o.Client
	}
	// The token goes to the hub alone: net/http leaves it out when a redirect
	// leads to another host, and here none may lead off TLS.
	h.client.CheckRedirect = func(to *http.Request, via []*http.Request) error {
		if len(via) > maxHops {
			return errors.New("it redirects for ever")
		}
		if via[0].URL.Scheme == "https" && to.URL.Scheme != "https" {
			return errors.New("it redirects to an address without TLS")
		}
		return nil
	}
	return h
}

// snapshot is one version of a repository on the hub.
type snapshot struct {
	hub  *Hub
	repo string
	sha  string
	list []FileInfo
}

var (
	repoName = regexp.MustCompile(`^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$`)
	refName  = regexp.MustCompile(`^[\w][\w./-]*$`)
	hashName = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// refusal is an answer that the cache must not replace: the hub was there
// and said no.
type refusal struct{ why string }

func (r refusal) Error() string { return r.why }

// Open finds a revision of a repository: a branch, a tag or a hash; empty is
// "main". The list of its files is asked for each time, unless the revision is
// a hash that was seen before; when the hub cannot be reached it is the one
// last seen.
func (h *Hub) Open(ctx context.Context, repo, revision string) (Source, error) {
	revision = cmp.Or(revision, "main")
	if !repoName.MatchString(repo) || strings.Contains(repo, "..") {
		return nil, fmt.Errorf("repository %q: not a name on the Hugging Face hub", repo)
	}
	if !refName.MatchString(revision) || strings.Contains(revision, "..") {
		return nil, fmt.Errorf("repository %s: revision %q is not a name on the Hugging Face hub", repo, revision)
	}
	key := "list/" + repo + "@" + revision
	if h.options.Offline || hashName.MatchString(revision) {
		if s, err := h.listing(repo, h.cached(ctx, key)); err == nil {
			return s, nil
		}
		if h.options.Offline {
			return nil, fmt.Errorf("repository %s: it was not read before, and the hub is not to be asked (offline)", repo)
		}
	}
	text, err := h.get(ctx, "/api/models/"+repo+"/revision/"+url.PathEscape(revision)+"?blobs=true", 0, -1)
	if err == nil {
		var s *snapshot
		if s, err = h.listing(repo, text); err == nil {
			h.keep(ctx, key, text)
			return s, nil
		}
	}
	if _, no := errors.AsType[refusal](err); !no {
		if s, cachedErr := h.listing(repo, h.cached(ctx, key)); cachedErr == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("repository %s: %w", repo, err)
}

// listing reads the hub's description of a repository.
func (h *Hub) listing(repo string, text []byte) (*snapshot, error) {
	var info struct {
		SHA   string `json:"sha"`
		Files []struct {
			Name string `json:"rfilename"`
			Size int64  `json:"size"`
		} `json:"siblings"`
	}
	if err := json.Unmarshal(text, &info); err != nil || !hashName.MatchString(info.SHA) {
		return nil, errors.New("the hub's list of its files is not understood")
	}
	s := &snapshot{hub: h, repo: repo, sha: info.SHA}
	for _, f := range info.Files {
		if plainName(f.Name) && f.Size >= 0 {
			s.list = append(s.list, FileInfo{Name: f.Name, Size: f.Size})
		}
	}
	slices.SortFunc(s.list, func(a, b FileInfo) int { return strings.Compare(a.Name, b.Name) })
	return s, nil
}

// Revision is the commit's hash.
func (s *snapshot) Revision() string { return s.sha }

// Files lists the files as they were when the snapshot was opened.
func (s *snapshot) Files(context.Context) ([]FileInfo, error) { return s.list, nil }

// Read reads a piece of a file, which is kept: at a hash it never changes.
func (s *snapshot) Read(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	if !plainName(name) || offset < 0 || length < 0 {
		return nil, fmt.Errorf("%q is no name of a file in a repository", name)
	}
	if length == 0 {
		return nil, nil
	}
	key := fmt.Sprintf("file/%s@%s/%s?%d+%d", s.repo, s.sha, name, offset, length)
	if b := s.hub.cached(ctx, key); int64(len(b)) == length {
		return b, nil
	}
	if s.hub.options.Offline {
		return nil, fmt.Errorf("%s was not read before, and the hub is not to be asked (offline)", name)
	}
	b, err := s.hub.get(ctx, "/"+s.repo+"/resolve/"+s.sha+"/"+(&url.URL{Path: name}).EscapedPath(), offset, length)
	if err != nil {
		return nil, err
	}
	s.hub.keep(ctx, key, b)
	return b, nil
}

// get asks for a piece of what is at a path; a length of -1 is the whole of
// something short.
func (h *Hub) get(ctx context.Context, path string, offset, length int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, h.options.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.options.Endpoint+path, nil)
	if err != nil {
		return nil, errors.New("the hub's address is not a URL")
	}
	req.Header.Set("Accept-Encoding", "identity") // ranges count the bytes of the file
	if h.options.Token != "" {
		req.Header.Set("Authorization", "Bearer "+h.options.Token)
	}
	if length >= 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the hub cannot be reached: %w", withoutURL(err))
	}
	defer resp.Body.Close()
	if err := accepted(resp, offset, length); err != nil {
		return nil, err
	}
	if length < 0 {
		b, err := io.ReadAll(io.LimitReader(resp.Body, maxListing+1))
		if err != nil || len(b) > maxListing {
			return nil, errors.New("the hub's answer breaks off or does not end")
		}
		return b, nil
	}
	// What comes is allocated as it comes, not as it was announced.
	b, err := io.ReadAll(io.LimitReader(resp.Body, length))
	if err != nil || int64(len(b)) != length {
		return nil, errors.New("the hub's answer breaks off")
	}
	return b, nil
}

// accepted says whether an answer is what was asked for.
func accepted(resp *http.Response, offset, length int64) error {
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return refusal{"the hub does not let us read it: it is private or gated, or does not exist; set a token that may (HF_TOKEN)"}
	case code == http.StatusNotFound:
		return refusal{"the hub does not have it: check the name and the revision"}
	case code == http.StatusRequestedRangeNotSatisfiable:
		return refusal{"the file is shorter than it should be"}
	case length < 0 && code == http.StatusOK, code == http.StatusOK && offset == 0:
		return nil // an answer from the beginning serves; the rest of it is not read
	case code == http.StatusOK:
		return errors.New("the hub does not answer range requests")
	case length < 0 || code != http.StatusPartialContent:
		return fmt.Errorf("the hub answers %d", code)
	}
	if first, ok := rangeStart(resp.Header.Get("Content-Range")); !ok || first != offset {
		return errors.New("the hub answers with another piece of the file")
	}
	return nil
}

// rangeStart reads where a piece begins from "bytes 8-15/100".
func rangeStart(header string) (int64, bool) {
	places, ok := strings.CutPrefix(header, "bytes ")
	first, _, found := strings.Cut(places, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	return n, ok && found && err == nil
}

// withoutURL is an error without the address: after a redirect that holds a
// signature that opens the file.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// cached is what was kept under a key, or nil.
func (h *Hub) cached(ctx context.Context, key string) []byte {
	if h.options.Cache == nil {
		return nil
	}
	b, err := h.options.Cache.Load(ctx, h.options.Endpoint+"/"+key)
	if err != nil {
		return nil // what cannot be read is asked for again
	}
	return b
}

// keep keeps something. That it could not be kept costs a request next time,
// no more.
func (h *Hub) keep(ctx context.Context, key string, value []byte) {
	if h.options.Cache != nil {
		_ = h.options.Cache.Store(ctx, h.options.Endpoint+"/"+key, value)
	}
}
