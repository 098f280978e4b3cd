package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/reelay/reelay/api/client"
)

// watchStates notes what OnState is told, in words.
func watchStates(config *client.Config) *[]string {
	var states []string
	config.OnState = func(status client.Status) {
		text := string(status.State)
		switch status.State {
		case client.Live:
			text += " " + status.Session.Replica
		case client.Waiting:
			text += " " + status.Delay.String()
		}
		states = append(states, text)
	}
	return &states
}

func TestClient_JudgesCloseCodes(t *testing.T) {
	t.Parallel()
	const (
		again = "again" // with the cursor and the same token
		renew = "renew" // with the cursor and another token
		stop  = "stop"
	)
	for code, want := range map[int]string{
		1000: again, 1001: again, 1005: again, 1006: again, 1011: again, 1012: again, 1013: again, 3008: again, 4321: again,
		3000: renew,
		1002: stop, 1003: stop, 1007: stop, 1008: stop, 1009: stop, 3003: stop,
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			scripts := []script{func(v *visit) {
				v.ready()
				v.send(event("c.1", "v"))
				if code == 1006 {
					_ = v.socket.NetConn().Close() // no close frame at all
					return
				}
				v.close(code, "some_reason")
			}}
			if want != stop {
				scripts = append(scripts, func(v *visit) {
					expectQuery(v, "after=c.1")
					wantToken := map[string]string{again: "Bearer token-1", renew: "Bearer token-2"}[want]
					if got := v.header.Get("Authorization"); got != wantToken {
						t.Errorf("second call: Authorization is %q, want %q", got, wantToken)
					}
					v.ready()
					v.close(3003, "the_end")
				})
			}
			inBubble(t, scripts, func(t *testing.T, g *gateway) {
				config := g.config()
				config.After = "c.0"
				tokens := 0
				config.Token = func(context.Context) (string, error) {
					tokens++
					return fmt.Sprintf("token-%d", tokens), nil
				}
				states := watchStates(&config)
				err := newClient(t, config).Run(t.Context(), ignore)
				var closed *client.CloseError
				if !errors.As(err, &closed) {
					t.Fatalf("Run: got %v, want a *CloseError", err)
				}
				wantStates := []string{"connecting", "live r1"}
				if want == stop {
					if closed.Code != code || closed.Reason != "some_reason" {
						t.Errorf("Run: got %v, want code %d and the reason", err, code)
					}
				} else {
					wantStates = append(wantStates, "waiting 250ms", "connecting", "live r1")
				}
				if !slices.Equal(*states, wantStates) {
					t.Errorf("states: got %v, want %v", *states, wantStates)
				}
			})
		})
	}
}

func TestClient_JudgesHTTPStatuses(t *testing.T) {
	t.Parallel()
	const problem = `{"code":"some_code","hint":"some advice"}`
	for status, stops := range map[int]bool{
		200: true, 302: true, 400: true, 403: true, 404: true, 426: true, 431: true,
		408: false, 425: false, 429: false, 500: false, 502: false, 503: false, 504: false,
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			scripts := []script{func(v *visit) { v.answer(status, problem) }}
			if !stops {
				scripts = append(scripts, closing(3003, "the_end"))
			}
			inBubble(t, scripts, func(t *testing.T, g *gateway) {
				err := newClient(t, g.config()).Run(t.Context(), ignore)
				var answered *client.HTTPError
				if got := errors.As(err, &answered); got != stops {
					t.Fatalf("Run: got %v; an *HTTPError: %v, want %v", err, got, stops)
				}
				if stops && (answered.Status != status || answered.Code != "some_code" || answered.Hint != "some advice") {
					t.Errorf("Run: got %+v, want the status and what the problem document says", answered)
				}
			})
		})
	}
}

func TestHTTPError_AdvisesWhereTheAnswerDoesNot(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status int
		header []string
		want   string
	}{
		{200, nil, "does a proxy in between drop the Upgrade header?"},
		{301, []string{"Location", "https://gateway.test/events"}, "it redirects to https://gateway.test/events"},
		{418, nil, "HTTP 418 I'm a teapot"},
		{404, nil, "HTTP 404 Not Found (no gateway there"},
	} {
		scripts := []script{func(v *visit) { v.answer(test.status, "<html>", test.header...) }}
		inBubble(t, scripts, func(t *testing.T, g *gateway) {
			err := newClient(t, g.config()).Run(t.Context(), ignore)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Run: got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestClient_StopsWhenANewTokenIsRefusedAsWell(t *testing.T) {
	t.Parallel()
	refusals := map[string]script{
		"close 3000": func(v *visit) { v.accept(); v.close(3000, "token_revoked") },
		"HTTP 401":   func(v *visit) { v.answer(http.StatusUnauthorized, `{"code":"token_revoked"}`) },
	}
	for name, refuse := range refusals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A connection that goes live makes a new row, a failure of another kind does not.
			scripts := []script{refuse, closing(3000, "token_expired"), closing502, refuse}
			inBubble(t, scripts, func(t *testing.T, g *gateway) {
				config := g.config()
				tokens := 0
				config.Token = func(context.Context) (string, error) {
					tokens++
					return fmt.Sprintf("token-%d", tokens), nil
				}
				err := newClient(t, config).Run(t.Context(), ignore)
				if !errors.Is(err, client.ErrUnauthorized) || !strings.Contains(err.Error(), "token_revoked") {
					t.Errorf("Run: got %v, want ErrUnauthorized and the reason", err)
				}
				if tokens != 3 {
					t.Errorf("asked for %d tokens, want 3: the first, and one after each refusal but the last", tokens)
				}
			})
		})
	}
}

func closing502(v *visit) { v.answer(http.StatusBadGateway, "") }

func TestClient_TriesAgainWhenNoTokenIsToBeHad(t *testing.T) {
	t.Parallel()
	inBubble(t, []script{closing(3003, "")}, func(t *testing.T, g *gateway) {
		config := g.config()
		calls := 0
		config.Token = func(context.Context) (string, error) {
			if calls++; calls < 3 {
				return "", errors.New("sign-in is down")
			}
			return "token", nil
		}
		states := watchStates(&config)
		var closed *client.CloseError
		if err := newClient(t, config).Run(t.Context(), ignore); !errors.As(err, &closed) {
			t.Errorf("Run: got %v, want the close after the token was there", err)
		}
		want := []string{"connecting", "waiting 250ms", "connecting", "waiting 500ms", "connecting", "live r1"}
		if !slices.Equal(*states, want) {
			t.Errorf("states: got %v, want %v", *states, want)
		}
	})
	inBubble(t, nil, func(t *testing.T, g *gateway) {
		config := g.config()
		config.Token = func(context.Context) (string, error) {
			return "", fmt.Errorf("signed out: %w", client.ErrUnauthorized)
		}
		if err := newClient(t, config).Run(t.Context(), ignore); !errors.Is(err, client.ErrUnauthorized) {
			t.Errorf("Run: got %v, want the ErrUnauthorized of Config.Token", err)
		}
	})
}

func TestClient_NeedsNoToken(t *testing.T) {
	t.Parallel()
	scripts := []script{func(v *visit) {
		if _, sent := v.header["Authorization"]; sent {
			t.Errorf("Authorization: got %q, want none", v.header.Get("Authorization"))
		}
		v.answer(403, "")
	}}
	inBubble(t, scripts, func(t *testing.T, g *gateway) {
		config := g.config()
		config.Token = nil
		var answered *client.HTTPError
		if err := newClient(t, config).Run(t.Context(), ignore); !errors.As(err, &answered) {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestClient_HonoursRetryAfter(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		header func() string
		want   time.Duration // before the jitter of the first attempt, 250 ms
	}{
		{"seconds", func() string { return "7" }, 7 * time.Second},
		// A bubble's clock begins on a full second.
		{"date", func() string { return time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat) }, 90 * time.Second},
		{"date that has passed", func() string { return "Mon, 02 Jan 2006 15:04:05 GMT" }, 10 * time.Minute},
		{"a slip of days", func() string { return "8640000" }, 10 * time.Minute},
		{"over any number", func() string { return "99999999999999999999" }, 0},
		{"negative", func() string { return "-5" }, 0},
		{"nonsense", func() string { return "soon" }, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var refusedAt, backAt time.Time
			scripts := []script{
				func(v *visit) { refusedAt = time.Now(); v.answer(429, "", "Retry-After", test.header()) },
				func(v *visit) { backAt = time.Now(); v.ready(); v.close(3003, "") },
			}
			inBubble(t, scripts, func(t *testing.T, g *gateway) {
				_ = newClient(t, g.config()).Run(t.Context(), ignore)
				if got, want := backAt.Sub(refusedAt), test.want+250*time.Millisecond; got != want {
					t.Errorf("back after %v, want %v", got, want)
				}
			})
		})
	}
}

func TestClient_BacksOffUntilAConnectionHasSettled(t *testing.T) {
	t.Parallel()
	flap := func(v *visit) { v.ready(); v.close(1013, "overloaded") }
	scripts := []script{closing502, closing502, flap, flap, closing502, closing502, closing502, closing502, func(v *visit) {
		v.ready()
		_ = v.socket.SetReadDeadline(time.Now().Add(5 * time.Second))
		v.drain()
		_ = v.socket.NetConn().Close()
	}, closing(3003, "")}
	inBubble(t, scripts, func(t *testing.T, g *gateway) {
		config := g.config()
		var delays []string
		config.OnState = func(status client.Status) {
			if status.State == client.Waiting {
				delays = append(delays, status.Delay.String())
			}
		}
		_ = newClient(t, config).Run(t.Context(), ignore)
		// Two connections that were live for an instant change nothing; the one that lived for five seconds does.
		want := []string{"250ms", "500ms", "1s", "2s", "4s", "8s", "16s", "30s", "250ms"}
		if !slices.Equal(delays, want) {
			t.Errorf("delays: got %v, want %v", delays, want)
		}
	})
}

func TestClient_SpreadsItsDelays(t *testing.T) {
	t.Parallel()
	const attempts = 200
	scripts := slices.Repeat([]script{closing502}, attempts)
	inBubble(t, append(scripts, closing(3003, "")), func(t *testing.T, g *gateway) {
		config := g.config()
		var sum time.Duration
		config.OnState = func(status client.Status) {
			if status.Delay < 0 || status.Delay > 30*time.Second {
				t.Errorf("delay of %v is not between nothing and the limit", status.Delay)
			}
			sum += status.Delay
		}
		c, err := client.New(config) // with jitter
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Run(t.Context(), ignore)
		// Evenly between 0 and 30 s: 15 s on average, and the average of 200 is within 5 s of it but for one run in 10^15.
		if mean := sum / attempts; mean < 10*time.Second || mean > 20*time.Second {
			t.Errorf("delays are %v on average, want about 15s", mean)
		}
	})
}

func TestClient_RefusesFramesItCannotRead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		kind    int
		message string
		code    int
	}{
		"binary":           {websocket.BinaryMessage, event("c.1", "v"), 1003},
		"not JSON":         {websocket.TextMessage, `{"id":`, 1007},
		"not an object":    {websocket.TextMessage, `[]`, 1007},
		"over the limit":   {websocket.TextMessage, strings.Repeat(" ", 1001), 1009},
		"unreadable ready": {websocket.TextMessage, `{"type":"reelay.ready","data":{"heartbeat":"x"}}`, 1007},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scripts := []script{func(v *visit) {
				v.ready()
				if err := v.socket.WriteMessage(test.kind, []byte(test.message)); err != nil {
					t.Errorf("write: %v", err)
				}
				if code := v.drain(); code != test.code {
					t.Errorf("the client ended with %d, want %d", code, test.code)
				}
			}}
			inBubble(t, scripts, func(t *testing.T, g *gateway) {
				config := g.config()
				config.ReadLimit = 1000
				err := newClient(t, config).Run(t.Context(), ignore)
				var closed *client.CloseError
				if !errors.As(err, &closed) || closed.Code != test.code {
					t.Errorf("Run: got %v, want a *CloseError with %d", err, test.code)
				}
			})
		})
	}
}
