package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/reelay/reelay/auth"
	"github.com/reelay/reelay/hub"
)

// cursorHeader is the header of a page's answer that carries the cursor to go on from.
const cursorHeader = "Reelay-Cursor"

// page is what a client that does not stay gets: what is after its cursor, and how to go on.
type page struct {
	events [][]byte // frames
	size   int      // bytes of events
	cursor hub.Cursor
	pageTail
}

// pageTail is the part of a page that is encoded by encoding/json. Events are frames already.
type pageTail struct {
	Cursor string `json:"cursor"`
	// More says that there is more behind the cursor at once. It may be true where a filter leaves nothing of it.
	More  bool `json:"more"`
	Reset bool `json:"reset"`
	// Reason is why the cursor could not be honoured.
	Reason hub.Reason `json:"reason,omitempty"`
	// Snapshot has the videos as they stood before events; nil: there is none.
	Snapshot  []json.RawMessage `json:"snapshot"`
	Truncated bool              `json:"truncated,omitempty"`
	// Unknown are videos of the filter that are not the user's.
	Unknown []string `json:"unknown,omitempty"`
}

// page answers with what there is now, or the first that comes.
func (s *Server) page(c *gin.Context, q query, p auth.Principal, stay *stay) {
	s.metrics.polls.Inc()
	defer s.metrics.polls.Dec()
	ctx, cancel := context.WithCancelCause(c.Request.Context())
	defer cancel(nil)
	page, err := s.poll(ctx, cancel, q, p, stay)
	if err != nil {
		s.deny(c, byPage, s.refusal(s.logger, leaving(ctx, err)))
		return
	}
	s.metrics.requests.WithLabelValues(string(byPage)).Inc()
	page.write(c, q.after != nil)
}

// poll reads the page for as long as the user may have it; leave ends ctx.
func (s *Server) poll(ctx context.Context, leave context.CancelCauseFunc, q query, p auth.Principal, stay *stay) (*page, error) {
	if l := s.admission.attach(stay, p.User); l != "" {
		return nil, s.reached(l)
	}
	defer s.registerPoll(&poll{p, leave})()
	if err := s.verifier.Check(p); err != nil { // it may have been revoked before it could be found
		return nil, err
	}
	page, err := s.readPage(ctx, q, p)
	if err != nil {
		return nil, err
	}
	return page, revokedCause(ctx)
}

func (p *page) add(frame []byte) {
	p.events = append(p.events, frame)
	p.size += len(frame)
}

// isEmpty tells whether the page says nothing.
func (p *page) isEmpty() bool { return len(p.events) == 0 && p.Snapshot == nil && !p.Reset }

// write answers with the page: 304 where the client says that it has it, 204 where it has nothing to say to one who came
// with a cursor.
func (p *page) write(c *gin.Context, resumed bool) {
	cursor := p.cursor.String()
	tag := `"` + cursor + `"`
	header := c.Writer.Header()
	header.Set(cursorHeader, cursor)
	header.Set("ETag", tag)
	header.Set("Cache-Control", "no-store")
	switch {
	case !p.More && !p.Reset && matches(c.Request.Header.Values("If-None-Match"), tag):
		c.Status(http.StatusNotModified)
	case resumed && p.isEmpty():
		c.Status(http.StatusNoContent)
	default:
		p.writeBody(c)
	}
	c.Writer.WriteHeaderNow()
}

// matches tells whether one of the tags that a client names is this one (RFC 9110, section 13.1.2).
func matches(named []string, tag string) bool {
	for name := range strings.SplitSeq(strings.Join(named, ","), ",") {
		name = strings.TrimPrefix(strings.TrimSpace(name), "W/")
		if name == tag || name == "*" {
			return true
		}
	}
	return false
}

func (p *page) writeBody(c *gin.Context) {
	p.Cursor = p.cursor.String()
	tail, err := json.Marshal(p.pageTail)
	if err != nil {
		panic("a page cannot be encoded: " + err.Error()) // all members are ours, and RawMessages were parsed
	}
	var body bytes.Buffer
	body.Grow(p.size + len(p.events) + len(tail) + 16)
	body.WriteString(`{"events":[`)
	body.Write(bytes.Join(p.events, []byte(",")))
	body.WriteString("],")
	body.Write(tail[1:])
	c.Writer.Header().Set("Content-Type", "application/json")
	c.Writer.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	c.Status(http.StatusOK)
	controller := http.NewResponseController(c.Writer)
	// An error says that the client has gone, or takes nothing: there is nobody to be told.
	_ = inParts(body.Bytes(), func(part []byte) error {
		if err := controller.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
			return err
		}
		_, err := c.Writer.Write(part)
		return err
	})
}
