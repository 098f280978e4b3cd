package api

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/reelay/reelay/hub"
)

// subscribe adds videos to the filter, if they are the user's. A video that is another's and one that does not exist
// are answered alike. The reading goroutine alone changes the filter.
func (c *connection) subscribe(ctx context.Context, videos []string, ref json.RawMessage) error {
	wider := make(map[string]bool, len(c.filter)+len(videos))
	maps.Copy(wider, c.filter)
	for _, id := range videos {
		wider[id] = true
	}
	if len(wider) > c.server.limits.Videos {
		return c.server.reached(limitVideos)
	}
	if c.filter != nil {
		// First the filter and then the question, so that what changes between the two is not missed. A connection that
		// has had all videos has them until there is an answer.
		c.session.Filter(subjects(wider))
	}
	unknown, err := confirm(ctx, c.session, wider, videos, func(id string) bool { _, before := c.filter[id]; return before })
	if err != nil {
		c.session.Filter(subjects(c.filter))
		return err
	}
	c.setFilter(c.session, wider)
	c.say("subscribed", nil, subscribedData{Videos: known(wider), Unknown: unknown, Ref: ref})
	return nil
}

// confirmFilter looks which videos of the query are the user's. A session that resumes may have been away when one of
// them was deleted or handed on, and has yet to be told.
func (c *connection) confirmFilter(ctx context.Context, session *hub.Session, resumed bool) error {
	filter := maps.Clone(c.filter)
	unknown, err := confirm(ctx, session, filter, c.query.videos, func(string) bool { return resumed })
	if err != nil {
		return err
	}
	c.setFilter(session, filter)
	c.say("subscribed", nil, subscribedData{Videos: known(filter), Unknown: unknown})
	return nil
}

// confirm asks which of videos are the user's, and returns the others. Those lose their place in filter, or, if there
// may be a last event of them to come, are marked there. No event of another's video can come, whatever the filter.
func confirm(
	ctx context.Context, session *hub.Session, filter map[string]bool, videos []string, last func(id string) bool,
) (unknown []string, err error) {
	owned, err := session.Lookup(ctx, videos)
	if err != nil {
		return nil, err
	}
	unknown = []string{}
	for _, id := range videos {
		if _, ok := owned[id]; ok || slices.Contains(unknown, id) {
			continue
		}
		unknown = append(unknown, id)
		if last(id) {
			filter[id] = false
		} else {
			delete(filter, id)
		}
	}
	return unknown, nil
}

// unsubscribe takes videos out of the filter. Without a filter there is nothing to take out: the client has all its
// videos, and is told so by null.
func (c *connection) unsubscribe(videos []string, ref json.RawMessage) {
	data := subscribedData{Unknown: []string{}, Ref: ref}
	if c.filter != nil {
		narrower := maps.Clone(c.filter)
		for _, id := range videos {
			delete(narrower, id)
		}
		c.setFilter(c.session, narrower)
		data.Videos = known(narrower)
	}
	c.say("subscribed", nil, data)
}

func (c *connection) setFilter(session *hub.Session, filter map[string]bool) {
	session.Filter(subjects(filter))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.filter = filter
}

// subjects returns the filter as a session takes it; nil for nil.
func subjects(filter map[string]bool) map[string]struct{} {
	if filter == nil {
		return nil
	}
	all := make(map[string]struct{}, len(filter))
	for id := range filter {
		all[id] = struct{}{}
	}
	return all
}

// known returns the filter's videos that are the user's, sorted; nil for nil.
func known(filter map[string]bool) []string {
	if filter == nil {
		return nil
	}
	videos := make([]string, 0, len(filter))
	for id, owned := range filter {
		if owned {
			videos = append(videos, id)
		}
	}
	slices.Sort(videos)
	return videos
}
