package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/websocket"
)

const (
	// keysUser owns nothing. Its sessions show which tokens are accepted.
	keysUser = "keys"
	// refusalLimit is how long a token of an unknown key may wait for its answer: the replica may ask for the key first.
	refusalLimit = 4 * time.Second
)

// keysAway takes the issuer's key server away from all replicas, and the issuer gets a new key meanwhile. Tokens of the
// keys that they know go on being good, and those of the new key, or of nobody's, are refused as any bad token is.
func keysAway(ctx context.Context, e *episode) error {
	e.mind(e.replicas...)
	away, how := (*proxy).cut, "the link broken off"
	if e.random.IntN(2) == 0 {
		away, how = func(p *proxy) { p.swallow(out, in) }, "the link swallows everything"
	}
	e.notef("%s", how)
	for _, r := range e.replicas {
		away(r.keys)
		defer r.keys.heal()
	}
	from := now()
	fresh, foreign := e.issuer.publish(), e.issuer.secretly()
	for tries := 0; tries == 0 || time.Since(from.happened) < e.keysGone; tries++ {
		for _, r := range e.replicas {
			e.answers(ctx, r, "known", e.issuer.mint(keysUser), http.StatusSwitchingProtocols)
			e.answers(ctx, r, "new", fresh.mint(keysUser), http.StatusUnauthorized)
			e.answers(ctx, r, "foreign", foreign.mint(keysUser), http.StatusUnauthorized)
		}
		pause(ctx, knockEvery)
	}
	for _, r := range e.replicas {
		r.keys.heal()
	}
	healed := now()
	for _, r := range e.replicas {
		err := until(ctx, recoverLimit, r.name+" accepts tokens of the new key", func() bool {
			status, _ := tokenStatus(ctx, r, fresh.mint(keysUser))
			return status == http.StatusSwitchingProtocols
		})
		e.recoveries = append(e.recoveries, time.Since(healed.happened))
		if err != nil {
			return err
		}
		e.answers(ctx, r, "known", e.issuer.mint(keysUser), http.StatusSwitchingProtocols)
		e.answers(ctx, r, "foreign", foreign.mint(keysUser), http.StatusUnauthorized)
	}
	e.issuer.adopt(fresh)
	_, err := e.flow(ctx, healed, e.probes)
	return err
}

// answers checks the status by which a replica answers a token, and that it does not take long.
func (e *episode) answers(ctx context.Context, r *replica, whose, token string, want int) {
	began := time.Now()
	status, err := tokenStatus(ctx, r, token)
	if status != want && ctx.Err() == nil {
		e.breaks("%s answers a token of a %s key by %d (%v), and not by %d", r.name, whose, status, err, want)
	}
	if took := time.Since(began); took > refusalLimit {
		e.exceeds("%s took %s to answer a token of a %s key", r.name, seconds(took), whose)
	}
}

// tokenStatus returns the HTTP status by which a replica answers a client with a token; 0 where there is none.
func tokenStatus(ctx context.Context, r *replica, token string) (int, error) {
	dialer := websocket.Dialer{HandshakeTimeout: 2 * refusalLimit}
	target := url.URL{Scheme: "ws", Host: r.public, Path: "/events", RawQuery: "snapshot=0"}
	socket, response, err := dialer.DialContext(ctx, target.String(), http.Header{"Authorization": {"Bearer " + token}})
	if socket != nil {
		_ = socket.Close()
	}
	if response == nil {
		return 0, fmt.Errorf("connect to %s: %w", r.name, err)
	}
	_ = response.Body.Close()
	return response.StatusCode, err
}
