package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/reelay/reelay/auth"
	"github.com/reelay/reelay/hub"
)

const (
	// pageBytes is how large events make a page at the most, but for the last of them.
	pageBytes = 1 << 20
	// restLimit is how long a page with something in it waits for the rest, which is known to be there.
	restLimit = time.Second
)

// pager reads one page from a session that lives no longer than that.
type pager struct {
	server  *Server
	session *hub.Session
	wake    chan struct{}
	query   query
	expires time.Time // when the token is worth nothing any more
	page    page
}

// logger is what those without a connection log to.
func (s *Server) logger() *slog.Logger { return s.log }

// readPage reads the page that a query asks for.
func (s *Server) readPage(ctx context.Context, q query, p auth.Principal) (*page, error) {
	limited, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	g := &pager{
		server: s, wake: make(chan struct{}, 1), query: q, expires: p.Expires.Add(s.verifier.Leeway()),
	}
	wake := func() {
		select {
		case g.wake <- struct{}{}:
		default: // it is awake
		}
	}
	session, err := s.hub.Attach(limited, owner(p), wake, hub.Options{Conflate: q.conflate})
	if err != nil {
		return nil, err
	}
	defer session.Close()
	g.session = session
	if err := g.begin(limited); err != nil {
		return nil, err
	}
	return g.read(ctx)
}

// begin places the session where the query says, and reads what it says should stand at the beginning.

func (g *pager) begin(ctx context.Context) error {
	var lost *hub.ErrReset
	if g.query.after != nil {
		if err := g.session.Resume(ctx, *g.query.after); err != nil && !errors.As(err, &lost) {
			return err
		}
	}
	if err := g.confirmFilter(ctx, g.query.after != nil && lost == nil); err != nil {
		return err
	}
	switch {
	case lost != nil || g.query.snapshot:
		return g.snapshot(ctx, lost)
	case g.query.after == nil:
		_, err := g.session.Live(ctx)
		return err
	}
	return nil
}

// confirmFilter does what a connection's does.
func (g *pager) confirmFilter(ctx context.Context, resumed bool) error {
	if g.query.videos == nil {
		return nil
	}
	filter := make(map[string]bool, len(g.query.videos))
	for _, id := range g.query.videos {
		filter[id] = true
	}
	unknown, err := confirm(ctx, g.session, filter, g.query.videos, func(string) bool { return resumed })
	if err != nil {
		return err
	}
	g.session.Filter(subjects(filter))
	g.page.Unknown, g.query.videos = unknown, known(filter)
	return nil
}

// snapshot places the session at this moment; lost, unless nil, is why it needs a new place.
func (g *pager) snapshot(ctx context.Context, lost *hub.ErrReset) error {
	snapshot, _, err := g.session.Snapshot(ctx, g.query.videos)
	if err != nil {
		return err
	}
	g.page.Snapshot, g.page.Truncated = make([]json.RawMessage, 0, len(snapshot.Rows)), snapshot.Truncated
	for _, row := range snapshot.Rows {
		video, err := encodeVideo(row)
		if err != nil {
			return err
		}
		g.page.Snapshot = append(g.page.Snapshot, video)
	}
	if lost != nil {
		g.page.Reset, g.page.Reason = true, lost.Reason
	}
	return nil
}

// read returns the page when it has something to say, or has waited for long enough. ctx is the request's: when its cause
// is a *problem, a page with nothing in it is as good an answer as any.
func (g *pager) read(ctx context.Context) (*page, error) {
	begun := time.Now()
	for {
		full, err := g.take()
		var lost *hub.ErrReset
		switch {
		case errors.As(err, &lost) && len(g.page.events) > 0:
			g.page.More = true // the next one is told
			return &g.page, nil
		case errors.As(err, &lost):
			if err := g.replace(ctx, lost); err != nil {
				return nil, err
			}
			continue
		case err != nil:
			return nil, err
		}
		g.page.cursor, g.page.More = g.session.Progress()
		if full {
			return &g.page, nil
		}
		until := begun.Add(g.patience())
		if time.Now().Before(until) {
			switch err := g.sleep(ctx, until); {
			case err == nil:
				continue
			case errors.Is(err, errTokenExpired) && g.page.isEmpty(), ctx.Err() != nil && !errors.Is(leaving(ctx, err), errRestart):
				return nil, err
			}
		}
		if g.page.More && g.page.isEmpty() {
			return nil, errUnavailable // there is something, and it could not be read for so long
		}
		return &g.page, nil
	}
}

// patience is how long the page may take in all, as it stands.
func (g *pager) patience() time.Duration {
	switch {
	case g.page.More && g.page.isEmpty():
		return max(readLimit, g.query.wait)
	case g.page.More:
		return restLimit
	case g.page.isEmpty():
		return g.query.wait
	}
	return 0
}

// take takes events until there is none for now, or the page is full.
func (g *pager) take() (full bool, err error) {
	for len(g.page.events) < g.query.limit && g.page.size < pageBytes {
		event, id, err := g.session.Next()
		if err != nil || event == nil {
			return false, err
		}
		g.page.add(event.Frame(id, encodeEvent))
	}
	return true, nil
}

// replace gives a session that has lost its place a new one.
func (g *pager) replace(ctx context.Context, lost *hub.ErrReset) error {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	return g.snapshot(ctx, lost)
}

// sleep returns nil when the session may have something. Otherwise it is over: errTokenExpired when the token is worth
// nothing any more, an error of ctx when the client has left or is to leave, and errUnavailable when the time is up.
func (g *pager) sleep(ctx context.Context, until time.Time) error {
	over := errUnavailable
	if g.expires.Before(until) {
		until, over = g.expires, errTokenExpired
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-g.wake:
		return nil
	case <-timer.C:
		return over
	case <-ctx.Done():
		return ctx.Err()
	}
}
