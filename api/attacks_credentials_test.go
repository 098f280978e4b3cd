package api_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/reelay/reelay/api"
)

// TestAttack_Credentials has the same bad credentials come by each way, and asks for a ticket with those that are no
// ticket: the answer is the same problem everywhere. What must not be told is looked for in log and metrics at the end
// of each world, and here in the answer.
func TestAttack_Credentials(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		target string
		lines  []string
		status int
		code   string
	}{
		"none":                         {"/events", nil, 401, "unauthorized"},
		"another scheme":               {"/events", []string{"Authorization: Basic Z29vZDpnb29k"}, 401, "unauthorized"},
		"scheme alone":                 {"/events", []string{"Authorization: Bearer"}, 401, "invalid_token"},
		"header twice":                 {"/events", []string{"Authorization: Bearer GOOD", "Authorization: Bearer GOOD"}, 400, "ambiguous_credentials"},
		"header and subprotocol":       {"/events", []string{"Authorization: Bearer GOOD", "Sec-WebSocket-Protocol: reelay.v1, reelay.bearer.BOBS"}, 400, "ambiguous_credentials"},
		"header and ticket":            {"/events?ticket=TICKET", []string{"Authorization: Bearer GOOD"}, 400, "ambiguous_credentials"},
		"two tickets":                  {"/events?ticket=TICKET&ticket=TICKET", nil, 400, "ambiguous_credentials"},
		"one segment":                  {"/events", []string{"Authorization: Bearer HEAD"}, 401, "invalid_token"},
		"two segments":                 {"/events", []string{"Authorization: Bearer HEAD.BODY"}, 401, "invalid_token"},
		"four segments":                {"/events", []string{"Authorization: Bearer GOOD.AAAA"}, 401, "invalid_token"},
		"padded":                       {"/events", []string{"Authorization: Bearer GOOD="}, 401, "invalid_token"},
		"a space more":                 {"/events", []string{"Authorization: Bearer  GOOD"}, 401, "invalid_token"},
		"no algorithm":                 {"/events", []string{"Authorization: Bearer NONE.BODY."}, 401, "invalid_token"},
		"a byte of the signature":      {"/events", []string{"Authorization: Bearer FLIPPED"}, 401, "invalid_token"},
		"expired":                      {"/events", []string{"Authorization: Bearer EXPIRED"}, 401, "token_expired"},
		"of tomorrow":                  {"/events", []string{"Authorization: Bearer TOMORROW"}, 401, "invalid_token"},
		"without an end":               {"/events", []string{"Authorization: Bearer ENDLESS"}, 401, "invalid_token"},
		"over 8 KiB":                   {"/events", []string{"Authorization: Bearer GOOD" + strings.Repeat("A", 8<<10)}, 401, "invalid_token"},
		"in the URL":                   {"/events?access_token=GOOD", nil, 400, "token_in_url"},
		"in the URL by another name":   {"/events?token=GOOD", nil, 400, "token_in_url"},
		"in the URL, spelt otherwise":  {"/events?%61ccess_token=GOOD", nil, 400, "token_in_url"},
		"in the URL, beside a header":  {"/events?access_token=GOOD", []string{"Authorization: Bearer GOOD"}, 400, "token_in_url"},
		"in the URL, after a cursor":   {"/events?after=k3f9a2bq.1&token=GOOD", nil, 400, "token_in_url"},
		"a cookie that nobody named":   {"/events", []string{"Cookie: session=GOOD"}, 401, "unauthorized"},
		"a ticket that nobody made":    {"/events?ticket=" + strings.Repeat("A", 43), nil, 401, "invalid_ticket"},
		"a token as a ticket":          {"/events?ticket=GOOD", nil, 401, "invalid_ticket"},
		"a ticket as a token":          {"/events", []string{"Authorization: Bearer TICKET"}, 401, "invalid_token"},
		"a revoked token":              {"/events", []string{"Authorization: Bearer REVOKED"}, 401, "token_revoked"},
		"a ticket of a revoked token":  {"/events?ticket=REVOKEDS", nil, 401, "token_revoked"},
		"a good one and a bad cursor":  {"/events?after=1", []string{"Authorization: Bearer GOOD"}, 400, "invalid_cursor"},
		"a good one, and a body to it": {"/events", []string{"Authorization: Bearer GOOD", "Content-Length: 1"}, 400, "unexpected_body"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			byEvery(t, func(w *world, by asking) {
				fill := w.credentials()
				target, lines := fill.Replace(c.target), fill.Replace(strings.Join(c.lines, "\r\n"))
				a := w.ask(by.request(target, split(lines)...))
				a.problem(w.T, c.status, c.code)
				challenge := a.Header.Get("WWW-Authenticate")
				if (challenge != "") != (c.status == http.StatusUnauthorized) || challenge != "" && !strings.HasPrefix(challenge, "Bearer") {
					w.Errorf("got WWW-Authenticate %q with %d", challenge, c.status)
				}
				w.checkAnswer(a)
				if c.target == "/events" && !strings.Contains(lines, "Content-Length") {
					a := w.ask(request("POST /tickets HTTP/1.1", append(split(lines), "Content-Length: 0")...))
					a.problem(w.T, c.status, c.code)
					w.checkAnswer(a)
				}
				w.healthy()
			})
		})
	}
}

func split(lines string) []string {
	if lines == "" {
		return nil
	}
	return strings.Split(lines, "\r\n")
}

// credentials returns what puts credentials into a request's text.
func (w *world) credentials() *strings.Replacer {
	w.Helper()
	good := w.token("alice")
	segments := strings.Split(good, ".")
	end := time.Now().Add(time.Hour).Unix()
	ticket, revokeds := w.withTicket("Authorization: Bearer "+good), w.withTicket("Authorization: Bearer "+w.tokenNamed("alice", "lost"))
	w.revocable.deny("", "lost")
	return strings.NewReplacer(
		"GOOD", good, "BOBS", w.token("bob"), "HEAD", segments[0], "BODY", segments[1], "FLIPPED", w.secret(flip(good)),
		"NONE", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)),
		"EXPIRED", w.sign(jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(-time.Minute).Unix()}),
		"TOMORROW", w.sign(jwt.MapClaims{"sub": "alice", "exp": end, "nbf": time.Now().Add(time.Minute).Unix()}),
		"ENDLESS", w.sign(jwt.MapClaims{"sub": "alice"}),
		"REVOKEDS", revokeds, "REVOKED", w.tokenNamed("alice", "lost"), "TICKET", ticket,
	)
}

// checkAnswer looks for what an answer must not tell.
func (w *world) checkAnswer(a answer) {
	w.Helper()
	var head strings.Builder
	_ = a.Header.Write(&head) // to memory
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, secret := range w.secrets {
		for part := range strings.SplitSeq(secret, ".") {
			if len(part) >= 8 && strings.Contains(head.String()+a.body, part) {
				w.Errorf("the answer holds the part %q of a secret:\n%s\n%s", part, head.String(), a.body)
			}
		}
	}
}

// TestAttack_TicketUsedAgain takes a ticket by each way, on another replica than the one that made it, and then again on
// either, by every way there is.
func TestAttack_TicketUsedAgain(t *testing.T) {
	t.Parallel()
	for _, first := range askings {
		t.Run(first.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				other := w.replica()
				ticket := w.withTicket("Authorization: Bearer " + w.token("alice"))
				other.ask(first.request("/events?ticket="+ticket)).letIn(w.T, first)
				for _, again := range askings {
					for _, replica := range []*world{w, other} {
						replica.ask(again.request("/events?ticket="+ticket)).problem(w.T, 401, "invalid_ticket")
					}
				}
				w.healthy()
			}, func(w *world) { w.server.Tickets = &sharedTickets{kept: make(map[string][]byte)} })
		})
	}
}

// A ticket that was refused to one page is not there for the next one either: whoever stole it has used it up.
func TestAttack_TicketStolenByAnotherPage(t *testing.T) {
	t.Parallel()
	const app, evil = "https://app.example.com", "https://other.example.com"
	byEvery(t, func(w *world, by asking) {
		ticket := w.withTicket("Origin: "+app, "Authorization: Bearer "+w.token("alice"))
		if by.name == "socket" { // a page is told by close code
			w.browseAt("ticket="+ticket, "Origin: "+evil).closed(3000, "invalid_ticket")
		} else {
			w.ask(by.request("/events?ticket="+ticket, "Origin: "+evil)).problem(w.T, 401, "invalid_ticket")
		}
		w.ask(askings[2].request("/events?ticket="+ticket, "Origin: "+app)).problem(w.T, 401, "invalid_ticket")
	}, func(w *world) { w.server.AllowedOrigins = []string{app, evil} })
}

// sharedTickets keeps tickets for several replicas, as Redis does. They live for ever.
type sharedTickets struct {
	mu   sync.Mutex
	kept map[string][]byte // guarded by mu
}

func (s *sharedTickets) Put(_ context.Context, id string, value []byte, _ time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[id] = value
	return nil
}

func (s *sharedTickets) Take(_ context.Context, id string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value := s.kept[id]
	delete(s.kept, id)
	return value, nil
}

// replica starts another server beside this one, with the same hub, log and tickets.
func (w *world) replica() *world {
	w.Helper()
	other := &world{
		T: w.T, log: w.log, bus: w.bus, auth: w.auth, server: w.server, revocable: w.revocable, registry: w.registry, logged: w.logged,
		ended: make(chan error, 1),
	}
	memory := newListener()
	other.server.Listener, other.dialer = memory, memory.dial
	ctx, drain := context.WithCancel(context.Background())
	other.drain = drain
	server := api.NewServer(other.server)
	go func() { other.ended <- server.Run(ctx) }()
	w.Cleanup(other.stop)
	return other
}
