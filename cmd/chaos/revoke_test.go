package main

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/reelay/reelay/api/client"
)

// guest is a session of one token on one replica.
type guest struct {
	*websocket.Conn

	on    *replica
	token string
	ended chan error // why it ended, once
}

// invite opens a session and reads it until it ends.
func invite(ctx context.Context, r *replica, token string) (*guest, error) {
	socket, err := dialSession(ctx, r.public, token, url.Values{"snapshot": {"0"}})
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", r.name, err)
	}
	frame, err := readFrame(socket)
	if err != nil || frame.Type != client.TypeReady {
		return nil, errors.Join(err, socket.Close(), fmt.Errorf("%s begins with %q", r.name, frame.Type))
	}
	g := &guest{Conn: socket, on: r, token: token, ended: make(chan error, 1)}
	go func() { // ends with the socket, which the test closes
		for {
			if _, err := readFrame(socket); err != nil {
				g.ended <- err
				return
			}
		}
	}()
	return g, nil
}

// TestSystem_RevokedWhileTheLeaderDies revokes users and tokens in a transaction, and kills the leader as it commits.
// Whoever was connected to one of the others is sent away, whoever comes back is refused everywhere, also by the replica
// that was dead at the time, and nobody else notices.
//
//nolint:paralleltest // It takes the whole machine.
func TestSystem_RevokedWhileTheLeaderDies(t *testing.T) {
	s := newStack(t, 0)
	db, err := s.open(2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var took []time.Duration
	for round := range 6 {
		leader, err := s.leader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		took = append(took, revokeOnce(t, s, db, leader, round)...)
		if err := leader.restart(); err != nil {
			t.Fatal(err)
		}
		if err := until(t.Context(), time.Minute, "all are ready", func() bool {
			return !slices.ContainsFunc(s.replicas, func(r *replica) bool { return !r.ready(t.Context()) })
		}); err != nil {
			t.Fatal(err)
		}
		// It was dead when the others heard of it.
		for _, user := range []string{mallory(round), fmt.Sprint("thief-", round)} {
			if _, err := invite(t.Context(), leader, revokedTokens[user]); !refused(err) {
				t.Errorf("round %d: %s, which was dead, lets %s in: %v", round, leader.name, user, err)
			}
		}
	}
	slices.Sort(took)
	t.Logf("from before the commit to the close frame: median %v, worst %v of %d", took[len(took)/2], took[len(took)-1], len(took))
}

func mallory(round int) string { return fmt.Sprint("mallory-", round) }

// revokedTokens are the tokens of users who are not let in any more.
var revokedTokens = make(map[string]string)

// revokeOnce returns how long it took until sessions were sent away.
func revokeOnce(t *testing.T, s *stack, db *sql.DB, leader *replica, round int) (took []time.Duration) {
	t.Helper()
	thief := fmt.Sprint("thief-", round)
	revokedTokens[mallory(round)], revokedTokens[thief] = s.issuer.mint(mallory(round)), s.issuer.mint(thief)
	tokenID := idOf(t, revokedTokens[thief])
	var leaving, staying []*guest
	for _, r := range s.replicas {
		for token, list := range map[string]*[]*guest{
			revokedTokens[mallory(round)]: &leaving, revokedTokens[thief]: &leaving,
			s.issuer.mint(thief): &staying, s.issuer.mint("bob"): &staying,
		} {
			g, err := invite(t.Context(), r, token)
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			*list = append(*list, g)
		}
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	for statement, argument := range map[string]string{
		"SELECT reelay.disconnect($1, 'found out')": mallory(round), "SELECT reelay.revoke_token($1)": tokenID,
	} {
		if _, err := tx.ExecContext(t.Context(), statement, argument); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	killed := make(chan error, 1)
	before := time.Now()
	go func() {
		_, err := leader.kill()
		killed <- err
	}()
	if err := errors.Join(tx.Commit(), <-killed); err != nil {
		t.Fatal(err)
	}
	for _, g := range leaving {
		select {
		case err := <-g.ended:
			if g.on == leader {
				continue // it was cut off by the kill, or told before
			}
			if end, ok := errors.AsType[*websocket.CloseError](err); !ok || end.Code != 3000 || end.Text != "token_revoked" {
				t.Errorf("round %d: the session on %s ended with %v, want 3000 token_revoked", round, g.on.name, err)
			}
			took = append(took, time.Since(before))
		case <-time.After(20 * time.Second):
			t.Fatalf("round %d: the session on %s is still there", round, g.on.name)
		}
		if _, err := invite(t.Context(), g.on, g.token); g.on != leader && !refused(err) {
			t.Errorf("round %d: %s lets in who was sent away: %v", round, g.on.name, err)
		}
	}
	for _, g := range staying {
		select {
		case err := <-g.ended:
			if g.on != leader {
				t.Errorf("round %d: a session on %s that was not concerned ended with %v", round, g.on.name, err)
			}
		default:
		}
	}
	return took
}

// idOf returns the jti of a token.
func idOf(t *testing.T, token string) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	var claims struct{ Jti string }
	if err := errors.Join(err, json.Unmarshal(raw, &claims)); err != nil || claims.Jti == "" {
		t.Fatalf("read the id of a token: %v", err)
	}
	return claims.Jti
}

// refused tells whether a handshake was answered, and by no.
func refused(err error) bool { return errors.Is(err, websocket.ErrBadHandshake) }
