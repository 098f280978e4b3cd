package auth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/reelay/reelay/auth"
)

// es256 is a good token by the first or second P-256 key.
func es256(t testing.TB, kid string) string {
	t.Helper()
	return signed(t, jwt.SigningMethodES256, keys().p256, kid)
}

func otherES256(t testing.TB, kid string) string {
	t.Helper()
	return signed(t, jwt.SigningMethodES256, keys().otherP256, kid)
}

func wantGood(t testing.TB, verifier *auth.Verifier, token, what string) {
	t.Helper()
	if got, err := verifier.Verify(token); err != nil || got.User != "alice" {
		t.Errorf("%s: got %+v, error %v; want alice", what, got, err)
	}
}

func wantBad(t testing.TB, verifier *auth.Verifier, token, rule string) {
	t.Helper()
	got, err := verifier.Verify(token)
	wantRefused(t, token, got, err, auth.ErrInvalidToken, rule)
}

// Attack 6: tokens with a kid that nobody knows. However many come, the key server is asked every five seconds at most,
// no token waits for it for long, and a real rotation meanwhile is taken.
func TestAttack06_UnknownKeys(t *testing.T) {
	t.Parallel()
	k := keys()
	synctest.Test(t, func(t *testing.T) {
		server := &issuer{set: setOf(jwkOf(k.p256, "a")), delay: 50 * time.Millisecond}
		verifier := newVerifier(t, serverConfig(server))
		start(t, verifier)
		wantGood(t, verifier, es256(t, "a"), "the first token, which waits for the first fetch")

		const tokens, spread = 10_000, 30 * time.Second
		var waited atomic.Int64
		rotated, taken := time.Time{}, time.Time{}
		forged := es256(t, "?")
		_, rest, _ := strings.Cut(forged, ".")
		begin := time.Now()
		for n := range tokens {
			token := encode(fmt.Appendf(nil, `{"alg":"ES256","kid":"random-%d"}`, n)) + "." + rest
			go func() { // the bubble waits for it
				asked := time.Now()
				got, err := verifier.Verify(token)
				wantRefused(t, token, got, err, auth.ErrInvalidToken, "kid names no key")
				if took := time.Since(asked); took > 0 {
					waited.Add(1)
					if took > 2*time.Second {
						t.Errorf("a token waited for %v", took)
					}
				}
			}()
			if n == tokens/2 {
				server.change(func(i *issuer) { i.set = setOf(jwkOf(k.otherP256, "b")) })
				rotated = time.Now()
			}
			if !rotated.IsZero() && taken.IsZero() {
				if _, err := verifier.Verify(otherES256(t, "b")); err == nil {
					taken = time.Now()
				}
			}
			pause(t.Context(), spread/tokens) // the clock of the bubble is moved by it, and nothing waits
		}
		synctest.Wait()
		asked := server.asked()
		for i := 1; i < len(asked); i++ {
			if gap := asked[i].Sub(asked[i-1]); gap < 5*time.Second {
				t.Errorf("fetch %d came %v after the one before, want 5s at least", i, gap)
			}
		}
		if most := 1 + int(time.Since(begin)/(5*time.Second)); len(asked) > most+1 || len(asked) < 5 {
			t.Errorf("%d fetches for %d tokens in %v, want one for each five seconds", len(asked), tokens, time.Since(begin))
		}
		if took := taken.Sub(rotated); taken.IsZero() || took > 10*time.Second {
			t.Errorf("the new key was taken %v after the rotation, want 10s at most", took)
		}
		if got := waited.Load(); got > 64*int64(len(asked)) {
			t.Errorf("%d tokens waited for %d fetches, want 64 each at most", got, len(asked))
		}
		wantBad(t, verifier, es256(t, "a"), "kid names no key") // which the set has no more
	})
}

// Attack 7: whatever the header says of keys, none of it is asked for or believed.
func TestAttack07_KeysInTheHeader(t *testing.T) {
	t.Parallel()
	k := keys()
	offer := string(must(json.Marshal(map[string]any{
		"alg": "ES256", "kid": "a", "jku": "https://issuer.example/evil.json", "x5u": "https://issuer.example/evil.pem",
		"x5c": []string{encode(spki(k.otherP256))}, "jwk": jwkOf(k.otherP256, "a"),
	})))
	synctest.Test(t, func(t *testing.T) {
		server := &issuer{set: setOf(jwkOf(k.p256, "a"))}
		verifier := newVerifier(t, serverConfig(server))
		start(t, verifier)
		synctest.Wait()
		pause(t.Context(), time.Minute) // so that nothing but the header keeps a fetch from starting
		before := len(server.asked())
		wantBad(t, verifier, forge(t, jwt.SigningMethodES256, k.otherP256, offer, goodPayload), "the signature does not match")
		wantGood(t, verifier, forge(t, jwt.SigningMethodES256, k.p256, offer, goodPayload), "a good signature under the same header")
		synctest.Wait()
		if after := len(server.asked()); after != before {
			t.Errorf("the header caused %d fetches, want none", after-before)
		}
	})
}

// The key server is away for minutes, and has other keys when it is back.
func TestVerifier_ServesThroughAnOutageOfTheKeyServer(t *testing.T) {
	t.Parallel()
	k := keys()
	for name, fail := range map[string]func(*issuer){
		"refused":        func(i *issuer) { i.err = errors.New("connection refused") },
		"hangs":          func(i *issuer) { i.delay = time.Hour },
		"drips":          func(i *issuer) { i.drip = time.Second },
		"status 500":     func(i *issuer) { i.status = 500 },
		"garbage":        func(i *issuer) { i.set = "<html>Bad gateway</html>" },
		"another object": func(i *issuer) { i.set = `{"error":"gone"}` },
		"empty":          func(i *issuer) { i.set = setOf() },
		"10 MB":          func(i *issuer) { i.set = strings.Repeat(" ", 10<<20) + i.set },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var logged logBuffer
				server := &issuer{set: setOf(jwkOf(k.p256, "a"))}
				cfg := serverConfig(server)
				cfg.Log = logged.logger()
				verifier := newVerifier(t, cfg)
				stop := start(t, verifier)
				wantGood(t, verifier, es256(t, "a"), "before the outage")
				server.change(fail)
				for range 60 {
					pause(t.Context(), 10*time.Second) // ten minutes of outage
					asked := time.Now()
					wantGood(t, verifier, es256(t, "a"), "a known key in the outage")
					wantBad(t, verifier, otherES256(t, "b"), "kid names no key")
					if took := time.Since(asked); took > 2*time.Second {
						t.Errorf("a token waited for %v", took)
					}
				}
				server.change(func(i *issuer) {
					i.set, i.err, i.status, i.delay, i.drip = setOf(jwkOf(k.otherP256, "b")), nil, 0, 0, 0
				})
				back := time.Now()
				for {
					if _, err := verifier.Verify(otherES256(t, "b")); err == nil || time.Since(back) > 10*time.Second {
						break
					}
					pause(t.Context(), 100*time.Millisecond) // a client that comes again
				}
				wantGood(t, verifier, otherES256(t, "b"), "the new key, ten seconds after the outage")
				wantBad(t, verifier, es256(t, "a"), "kid names no key")
				stop()
				text := logged.String()
				if got := strings.Count(text, "brings no keys"); got < 1 || got > 4 {
					t.Errorf("the outage of ten minutes was logged %d times, want it once and then every five minutes:\n%s", got, text)
				}
				for _, want := range []string{"the keys known so far stay good", "answers again", "added=[b]", "dropped=[a]"} {
					if !strings.Contains(text, want) {
						t.Errorf("the log lacks %q:\n%s", want, text)
					}
				}
			})
		})
	}
}

// A gateway starts although the key server is away, refuses every token, says why, and takes the keys when they come,
// also if nobody asks for them.
func TestVerifier_StartsWithoutTheKeyServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var logged logBuffer
		server := &issuer{set: setOf(jwkOf(keys().p256, "a")), err: errors.New("no such host")}
		cfg := serverConfig(server)
		cfg.Log = logged.logger()
		verifier := newVerifier(t, cfg)
		if verifier.Ready() == nil {
			t.Error("ready before the first fetch")
		}
		stop := start(t, verifier)
		pause(t.Context(), time.Minute) // of outage
		wantBad(t, verifier, es256(t, "a"), "the key server has given no keys yet")
		wantBad(t, verifier, hs256(t, goodHeader, goodPayload), "alg is none that")
		if err := verifier.Ready(); err == nil || !strings.Contains(err.Error(), "no keys yet") {
			t.Errorf("Ready: got %v, want that there are no keys", err)
		}
		server.change(func(i *issuer) { i.err = nil })
		pause(t.Context(), 10*time.Second) // in which nobody asks
		if err := verifier.Ready(); err != nil {
			t.Errorf("ten seconds after the key server came: %v", err)
		}
		wantGood(t, verifier, es256(t, "a"), "ten seconds after the key server came")
		stop()
		for _, want := range []string{"no such host", "tokens are refused until it does", "answers again"} {
			if !strings.Contains(logged.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, logged.String())
			}
		}
	})
}

// A key that the set lacks is dropped at the next refresh, and one that is added is taken without being asked for.
func TestVerifier_RefreshesInTheBackground(t *testing.T) {
	t.Parallel()
	k := keys()
	synctest.Test(t, func(t *testing.T) {
		server := &issuer{set: setOf(jwkOf(k.p256, "a"), jwkOf(k.rsa, "r"))}
		verifier := newVerifier(t, serverConfig(server))
		stop := start(t, verifier)
		synctest.Wait()
		server.change(func(i *issuer) { i.set = setOf(jwkOf(k.p256, "a"), jwkOf(k.otherP256, "b")) })
		wantGood(t, verifier, signed(t, jwt.SigningMethodRS256, k.rsa, "r"), "the key that is about to go")
		pause(t.Context(), time.Hour) // of the bubble
		asked := server.asked()
		if len(asked) < 11 || len(asked) > 14 {
			t.Errorf("%d fetches in an hour, want one for each five minutes", len(asked))
		}
		gaps := make(map[time.Duration]bool)
		for i := 1; i < len(asked); i++ {
			gap := asked[i].Sub(asked[i-1])
			gaps[gap] = true
			if gap < 270*time.Second || gap > 330*time.Second {
				t.Errorf("fetch %d came %v after the one before, want five minutes and a tenth", i, gap)
			}
		}
		if len(gaps) < 2 {
			t.Errorf("all fetches came after the same time, %v: nothing keeps replicas apart", gaps)
		}
		stop() // no fetch can have brought what is good now
		wantGood(t, verifier, otherES256(t, "b"), "the key that came")
		wantBad(t, verifier, signed(t, jwt.SigningMethodRS256, k.rsa, "r"), "alg is none that")
	})
}

// A token without a kid is tried on the keys of its algorithm, and one by a key with a kid on that one alone.
func TestVerifier_ChoosesAmongTheKeysOfASet(t *testing.T) {
	t.Parallel()
	k := keys()
	verifier := newVerifier(t, serverConfig(&issuer{set: setOf(
		jwkOf(k.rsa, "r"), jwkOf(k.p256, "a"), jwkOf(k.otherP256, "b"), jwkOf(k.p384, "a"), jwkOf(k.ed25519, ""),
	)}))
	if err := verifier.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"a":                         es256(t, "a"),
		"b":                         otherES256(t, "b"),
		"a of another curve":        signed(t, jwt.SigningMethodES384, k.p384, "a"),
		"no kid, first key":         es256(t, ""),
		"no kid, second key":        otherES256(t, ""),
		"no kid, RSA":               signed(t, jwt.SigningMethodPS512, k.rsa, ""),
		"kid of a key without one":  signed(t, jwt.SigningMethodEdDSA, k.ed25519, "new"),
		"no kid, key without one":   signed(t, jwt.SigningMethodEdDSA, k.ed25519, ""),
		"RSA key for PSS by kid":    signed(t, jwt.SigningMethodPS256, k.rsa, "r"),
		"RSA key for PKCS 1 by kid": signed(t, jwt.SigningMethodRS384, k.rsa, "r"),
	} {
		wantGood(t, verifier, token, name)
	}
	wantBad(t, verifier, es256(t, "b"), "the signature does not match")
	wantBad(t, verifier, es256(t, "r"), "kid names no key")
	wantBad(t, verifier, es256(t, "c"), "kid names no key")
	wantBad(t, verifier, es256(t, "A"), "kid names no key")
	wantBad(t, verifier, signed(t, jwt.SigningMethodES512, k.p521, "a"), "alg is none that")
	wantBad(t, verifier, signed(t, jwt.SigningMethodHS256, spki(k.p256), "a"), "alg is none that")
}

// A forged token without a kid costs a bounded number of signatures, however many keys there are.
func TestVerifier_TriesABoundedNumberOfKeys(t *testing.T) {
	t.Parallel()
	k := keys()
	many := make([]jwk, 0, 33)
	for range 32 {
		many = append(many, jwkOf(k.otherP256, "old"))
	}
	verifier := newVerifier(t, serverConfig(&issuer{set: setOf(append(many, jwkOf(k.p256, "a"))...)}))
	if err := verifier.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantGood(t, verifier, es256(t, "a"), "the 33rd key, by its kid")
	wantBad(t, verifier, es256(t, ""), "the signature does not match")
}

// Where Run does not run, and after it has ended, nothing waits.
func TestVerifier_DoesNotWaitForWhatWillNotCome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &issuer{set: setOf(jwkOf(keys().p256, "a")), delay: 4 * time.Second}
		verifier := newVerifier(t, serverConfig(server))
		stop := start(t, verifier)
		begin := time.Now()
		done := make(chan struct{})
		go func() { // the bubble waits for it
			defer close(done)
			wantBad(t, verifier, es256(t, "a"), "no keys yet")
		}()
		synctest.Wait() // it waits for the fetch
		stop()
		<-done
		wantBad(t, verifier, es256(t, "a"), "no keys yet")
		if took := time.Since(begin); took > 0 {
			t.Errorf("tokens waited for %v after the end", took)
		}
	})
}

// Run without a JWKS lives as long as its context, as every component does.
func TestVerifier_RunWithoutAKeyServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		verifier := newVerifier(t, secretConfig())
		stop := start(t, verifier)
		if err := errors.Join(verifier.Ready(), verifier.Fetch(t.Context())); err != nil {
			t.Errorf("Ready and Fetch: %v", err)
		}
		synctest.Wait()
		stop()
	})
}
