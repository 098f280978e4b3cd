package auth_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/reelay/reelay/auth"
)

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
