package auth_test

import (
	"strings"
	"testing"

	"github.com/reelay/reelay/auth"
)

// Attack 3: segments, base64, white space. Each token here is a good one that was changed as text.
func TestAttack03_OtherSpellings(t *testing.T) {
	t.Parallel()
	good := hs256(t, goodHeader, goodPayload)
	segments := strings.Split(good, ".")
	header, payload, signature := segments[0], segments[1], segments[2]
	// The last letter of 32 bytes in base64 stands for four bits. Another one with the same four decodes to the same bytes.
	strayBits := good[:len(good)-1] + string(alphabet[strings.IndexByte(alphabet, good[len(good)-1])|1])
	if strayBits == good {
		t.Fatal("the test's own signature has stray bits")
	}
	const (
		alphabetRule = "a byte that is not base64url"
		countRule    = "not three segments"
	)
	tests := []struct{ name, token, rule string }{
		{"empty", "", countRule},
		{"one segment", header, countRule},
		{"two segments", header + "." + payload, countRule},
		{"four segments", good + ".", countRule},
		{"five segments", good + "." + header + "." + payload, countRule},
		{"two dots", "..", "a segment is empty"},
		{"no header", "." + payload + "." + signature, "a segment is empty"},
		{"no payload", header + ".." + signature, "a segment is empty"},
		{"no signature", header + "." + payload + ".", "a segment is empty"},
		{"padded", header + "." + payload + "." + signature + "=", alphabetRule},
		{"standard base64", header + "." + payload + "." + strings.Repeat("+/", 21) + "A", alphabetRule},
		{"space before", " " + good, alphabetRule},
		{"space after", good + " ", alphabetRule},
		{"newline after", good + "\n", alphabetRule},
		{"newline inside", good[:20] + "\n" + good[20:], alphabetRule},
		{"carriage return inside", good[:20] + "\r" + good[20:], alphabetRule},
		{"NUL", good + "\x00", alphabetRule},
		{"a letter of another alphabet", header + "." + payload + ".é" + signature, alphabetRule},
		{"Bearer left on", "Bearer " + good, alphabetRule},
		{"stray bits", strayBits, "canonical"},
		{"a length no base64 has", good + "AA", "canonical"},
		{"signature cut short", header + "." + payload + "." + signature[:40], "signature"},
		{"signature of one byte", header + "." + payload + ".AA", "signature"},
		{"signature of another payload", header + "." + encode([]byte(`{"sub":"mallory-canary","exp":1800003600}`)) + "." + signature, "signature"},
		{"header exchanged", encode([]byte(`{"alg":"HS512","typ":"JWT"}`)) + "." + payload + "." + signature, "signature"},
		{"8,193 bytes", header + "." + payload + "." + strings.Repeat("A", 8193-len(header)-len(payload)-2), "too long"},
		{"8,192 bytes", header + "." + payload + "." + strings.Repeat("A", 8192-len(header)-len(payload)-2), "signature"},
		{"4 MB", strings.Repeat("a.", 2<<20), "too long"},
		{"nothing but dots", strings.Repeat(".", 8192), countRule},
		// The payload of a stranger is not looked at: it is the signature that refuses.
		{"unsigned and deep", header + "." + encode([]byte(strings.Repeat("[", 5000))) + "." + signature, "signature"},
		{"unsigned and twice", header + "." + encode([]byte(`{"sub":"a","sub":"b"}`)) + "." + signature, "signature"},
		{"unsigned and expired", header + "." + encode([]byte(`{"sub":"alice","exp":1}`)) + "." + signature, "signature"},
	}
	verifier := newVerifier(t, secretConfig())
	if _, err := verifier.Verify(good); err != nil {
		t.Fatalf("the good token: %v", err)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := verifier.Verify(test.token)
			wantRefused(t, test.token, got, err, auth.ErrInvalidToken, test.rule)
		})
	}
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// Attack 4: an algorithm that is none, or none of the key.
func TestAttack04_Algorithm(t *testing.T) {
	t.Parallel()
	wantSignedRefused(t, []signedCase{
		{"alg none", nil, `{"alg":"none"}`, "", nil, "alg is none that"},
		{"alg nOnE", nil, `{"alg":"nOnE"}`, "", nil, "alg is none that"},
		{"alg in small letters", nil, `{"alg":"hs256"}`, "", nil, "alg is none that"},
		{"alg empty", nil, `{"alg":""}`, "", nil, "alg is none that"},
		{"alg of another key", nil, `{"alg":"RS256"}`, "", nil, "alg is none that"},
		{"alg that does not exist", nil, `{"alg":"HS999-canary"}`, "", nil, "alg is none that"},
		{"alg a number", nil, `{"alg":256}`, "", nil, "alg is missing or not a string"},
		{"alg null", nil, `{"alg":null}`, "", nil, "alg is missing or not a string"},
		{"alg a list", nil, `{"alg":["HS256"]}`, "", nil, "alg is missing or not a string"},
		{"alg missing", nil, `{"typ":"JWT"}`, "", nil, "alg is missing or not a string"},
		{"ALG", nil, `{"ALG":"HS256"}`, "", nil, "alg is missing or not a string"},
		{"another HMAC than the header says", nil, `{"alg":"HS384"}`, "", nil, "signature"},
	})
}

// Attack 8: extensions that change what a token means, and tokens for other purposes.
func TestAttack08_Extensions(t *testing.T) {
	t.Parallel()
	wantSignedRefused(t, []signedCase{
		{"crit", nil, `{"alg":"HS256","crit":["canary-ext"],"canary-ext":1}`, "", nil, "crit"},
		{"crit empty", nil, `{"alg":"HS256","crit":[]}`, "", nil, "crit"},
		{"crit null", nil, `{"alg":"HS256","crit":null}`, "", nil, "crit"},
		{"b64 false", nil, `{"alg":"HS256","b64":false}`, "", nil, "b64"},
		{"b64 true", nil, `{"alg":"HS256","b64":true}`, "", nil, "b64"},
		{"typ of a logout token", nil, `{"alg":"HS256","typ":"logout+jwt"}`, "", nil, "typ"},
		{"typ empty", nil, `{"alg":"HS256","typ":""}`, "", nil, "typ"},
		{"typ null", nil, `{"alg":"HS256","typ":null}`, "", nil, "typ"},
		{"typ a number", nil, `{"alg":"HS256","typ":1}`, "", nil, "typ"},
	})
}

// Attack 12: two readers could take different ones.
func TestAttack12_SameMemberTwice(t *testing.T) {
	t.Parallel()
	wantSignedRefused(t, []signedCase{
		{"alg twice", nil, `{"alg":"HS256","alg":"HS256"}`, "", nil, "header: the same member twice"},
		{"kid twice", nil, `{"alg":"HS256","kid":"a","kid":"a"}`, "", nil, "header: the same member twice"},
		{"twice inside the header", nil, `{"alg":"HS256","jwk":{"a":1,"a":1}}`, "", nil, "header: the same member twice"},
		{"sub twice", nil, "", `{"sub":"alice","exp":1800003600,"sub":"mallory-canary"}`, nil, "payload: the same member twice"},
		{"sub twice, once escaped", nil, "", `{"sub":"alice","exp":1800003600,"s\u0075b":"mallory-canary"}`, nil, "payload: the same member twice"},
		{"exp twice", nil, "", `{"sub":"alice","exp":1,"exp":1800003600}`, nil, "payload: the same member twice"},
		{"twice further down", nil, "", `{"sub":"alice","exp":1800003600,"x":[0,{"y":{"z":1,"z":2}}]}`, nil, "payload: the same member twice"},
	})
}

// Attack 15: nesting is refused before JSON is parsed.
func TestAttack15_Depth(t *testing.T) {
	t.Parallel()
	wantSignedRefused(t, []signedCase{
		{"header deep", nil, `{"alg":"HS256","x":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`, "", nil, "header: nested too deep"},
		{"payload deep", nil, "", `{"sub":"alice","exp":1800003600,"x":` + strings.Repeat(`{"x":`, 16) + `1` + strings.Repeat("}", 16) + `}`, nil, "payload: nested too deep"},
		{"payload very deep", nil, "", strings.Repeat("[", 5000), nil, "payload: nested too deep"},
	})
}

// Attack 15: a token that is too large is refused although everything else about it is right.
func TestAttack15_Size(t *testing.T) {
	t.Parallel()
	verifier := newVerifier(t, secretConfig())
	pad := func(n int) string {
		return hs256(t, goodHeader, `{"sub":"alice","exp":1800003600,"x":"`+strings.Repeat("x", n)+`"}`)
	}
	n := 6000
	for len(pad(n+1)) <= auth.MaxTokenBytes {
		n++
	}
	if got, err := verifier.Verify(pad(n)); err != nil || got.User != "alice" {
		t.Errorf("%d bytes: got %+v, error %v; want alice", len(pad(n)), got, err)
	}
	larger := pad(n + 1)
	got, err := verifier.Verify(larger)
	wantRefused(t, larger, got, err, auth.ErrInvalidToken, "too long")
}
