// Running requests: each gets its turn, see slots.go, and then its tokens at a
// steady pace.

package vllmsim

import (
	"context"
	"os"
	"time"
)

// job is one request's work.
type job struct {
	prompt  int     // tokens
	replies []reply // one for each sequence; none for an embedding
	hangs   bool    // the first token never comes
}

// run does a job and calls emit for each token of each sequence, in turn, with the
// token's number from 0. An error of emit ends the job, as ctx's end does; the
// error is then its cause.
func (s *Server) run(ctx context.Context, j job, emit func(sequence, token int) error) (err error) {
	arrival := time.Now()
	steps, tokens := 0, 0
	first, last := arrival, arrival // tokens, once there are any
	defer func() {
		s.metrics.ended(j.reason(err), steps, last.Sub(first), time.Since(arrival))
	}()

	if err := s.slots.take(ctx); err != nil {
		return err
	}
	defer s.slots.give()
	start := time.Now()
	s.metrics.started(start.Sub(arrival))
	s.kvInUse.Add(int64(j.prompt))
	defer func() { s.kvInUse.Add(-int64(j.prompt + tokens)) }()

	if j.hangs {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	pace := pacer{ctx: ctx, due: start.Add(s.cfg.TTFT)}
	defer pace.stop()
	if err := pace.wait(); err != nil {
		return err
	}
	if err := pace.held(s.cfg.Hold); err != nil {
		return err
	}
	if err := pace.thawed(&s.slots); err != nil {
		return err
	}
	if err := s.grow(); err != nil {
		return err
	}
	first = time.Now()
	last = first
	s.metrics.firstToken(j.prompt, first.Sub(arrival))
	for ; steps < j.length(); steps++ {
		since := time.Duration(-1)
		if steps > 0 {
			if err := pace.next(s.cfg.TokensPerSecond); err != nil {
				return err
			}
			if err := pace.thawed(&s.slots); err != nil {
				return err
			}
			now := time.Now()
			since, last = now.Sub(last), now
		}
		before := tokens
		for sequence, r := range j.replies {
			if steps >= r.length {
				continue
			}
			tokens++
			s.kvInUse.Add(1)
			if err := emit(sequence, steps); err != nil {
				return err
			}
		}
		s.metrics.step(tokens-before, since)
	}
	return nil
}

// length is the number of tokens in the longest reply.
func (j job) length() int {
	n := 0
	for _, r := range j.replies {
		n = max(n, r.length)
	}
	return n
}

// reason is why the job ended, in a metric's words.
func (j job) reason(err error) string {
	switch {
	case err != nil:
		return "abort"
	case len(j.replies) == 0:
		return "stop"
	}
	return j.replies[0].reason
}

// pacer waits for one moment after another, reusing one timer.
type pacer struct {
	ctx   context.Context
	due   time.Time
	timer *time.Timer
}

// wait returns when the moment is due, or with the cause of the context's end. A
// moment that has passed costs nothing, so that delays do not add up.
func (p *pacer) wait() error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	d := time.Until(p.due)
	if d <= 0 {
		return nil
	}
	if p.timer == nil {
		p.timer = time.NewTimer(d)
	} else {
		p.timer.Reset(d)
	}
	select {
	case <-p.timer.C:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// next waits for the token after this one. A rate of 0 is no limit.
func (p *pacer) next(perSecond float64) error {
	if perSecond > 0 {
		p.due = p.due.Add(time.Duration(float64(time.Second) / perSecond))
	}
	return p.wait()
}

// held waits until the file at path is gone; the next token's time counts from then.
// A poll is enough: the file's owner waits for what it sees of the server.
func (p *pacer) held(path string) error {
	if path == "" {
		return nil
	}
	for {
		if _, err := os.Stat(path); err != nil {
			return nil
		}
		p.due = time.Now().Add(10 * time.Millisecond)
		if err := p.wait(); err != nil {
			return err
		}
	}
}

// thawed waits while requests are frozen; the next token's time counts from then.
func (p *pacer) thawed(s *slots) error {
	for {
		thaw := s.frozen()
		if thaw == nil {
			return nil
		}
		select {
		case <-thaw:
			p.due = time.Now()
		case <-p.ctx.Done():
			return context.Cause(p.ctx)
		}
	}
}

func (p *pacer) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}
