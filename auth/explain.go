package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verdict is what a Verifier says of a token.
type Verdict string

// The verdicts, by the names that JSON gives them.
const (
	// Accepted tokens open a session.
	Accepted Verdict = "accepted"
	// Refused tokens do not; Explanation.Rule says why.
	Refused Verdict = "refused"
	// Unchecked tokens were taken apart and not judged, since there is no Verifier.
	Unchecked Verdict = "unchecked"
)

// Explanation is a token for people to read. It holds what header and payload say, and never the signature: whoever
// sees it learns who the token is for, and cannot use it.
type Explanation struct {
	Verdict Verdict `json:"verdict"`
	// Rule is the one that refused the token, in words from a fixed list. The first one counts: a token that is mended may
	// be refused by the next.
	Rule string `json:"rule,omitempty"`
	// Advice is what to do about Rule.
	Advice string `json:"advice,omitempty"`
	// User is the user id of an accepted token.
	User string `json:"user,omitempty"`
	// Header and Claims are what the token says, whether or not it is to be believed; nil where they cannot be read. Values
	// are of the types that decoding JSON with json.Number gives.
	Header map[string]any `json:"header,omitempty"`
	Claims map[string]any `json:"claims,omitempty"`
	// Dates are the claims exp, nbf and iat that are dates.
	Dates []ExplainedDate `json:"dates,omitempty"`
	// Notes are what else is worth knowing about this token.
	Notes []string `json:"notes,omitempty"`
	// Keys are what the token was checked with.
	Keys []string `json:"keys,omitempty"`
}

// ExplainedDate is a claim that is a date.
type ExplainedDate struct {
	Claim string    `json:"claim"`
	Time  time.Time `json:"time"`
	// Words say what it means now, such as "expired 3 minutes ago".
	Words string `json:"words"`
}

// Explain takes token apart and says what verifier thinks of it, and why. Without a verifier it explains only; still a
// token that every verifier refuses for its form is refused. now is the time that words such as "ago" refer to; what
// the verifier thinks goes by the verifier's own clock. Like Verify it may wait for the key server.
func Explain(token string, verifier *Verifier, now time.Time) Explanation {
	explanation := Explanation{Verdict: Unchecked}
	_, err := parse(token)
	if verifier != nil {
		var principal Principal
		principal, err = verifier.Verify(token)
		explanation.User = principal.User
		explanation.Keys = verifier.describeKeys()
	}
	switch {
	case err != nil:
		explanation.Verdict = Refused
		if refused, ok := errors.AsType[refusal](err); ok {
			explanation.Rule, explanation.Advice = refused.rule.text, refused.rule.advice
		}
	case verifier != nil:
		explanation.Verdict = Accepted
	}
	if len(token) > MaxTokenBytes {
		return explanation // as elsewhere, nothing of it is looked at
	}
	header, payload := segments(token)
	if explanation.Header, err = decodeObject(header); err != nil {
		explanation.Header = nil
	}
	if explanation.Claims, err = decodeObject(payload); err != nil {
		explanation.Claims = nil
	}
	var leeway time.Duration
	if verifier != nil {
		leeway = verifier.cfg.Leeway
	}
	explanation.Dates = explainDates(explanation.Claims, leeway, now)
	explanation.Notes = notes(explanation, verifier)
	return explanation
}

// segments decodes the first two parts of a token as far as it can.
func segments(token string) (header, payload []byte) {
	parts := strings.SplitN(token, ".", 3)
	if len(parts) < 2 {
		return nil, nil
	}
	header, _ = base64url.DecodeString(parts[0])
	payload, _ = base64url.DecodeString(parts[1])
	return header, payload
}

// describeKeys says what v has, for people.
func (v *Verifier) describeKeys() []string {
	keys := v.fixed
	if v.server != nil {
		keys = v.server.keys()
	}
	var list []string
	for _, k := range keys {
		text := k.kind
		if k.id != "" {
			text = fmt.Sprintf("%s, kid %q", k.kind, shorten(k.id))
		}
		list = append(list, text)
	}
	return list
}

// notes says what a person would not see at once.
func notes(e Explanation, verifier *Verifier) []string {
	var list []string
	note := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	for _, name := range []string{"jku", "x5u", "x5c", "jwk"} {
		if _, present := e.Header[name]; present {
			note("The header offers a key by %s. It is ignored: the gateway's keys are configured, and a token brings none.", name)
		}
	}
	if e.Claims == nil {
		return list
	}
	if e.Rule == ruleExp.text {
		if seconds, ok := tooLargeForSeconds(e.Claims["exp"]); ok {
			note("exp looks like milliseconds: divided by 1000 it is %s.", seconds.Format(time.RFC3339))
		}
	}
	if verifier != nil {
		switch e.Rule {
		case ruleIssuer.text:
			note("iss is %s in the token, and %q is configured.", asJSON(e.Claims["iss"]), verifier.cfg.Issuer)
		case ruleAudience.text:
			note("aud is %s in the token, and %q is configured.", asJSON(e.Claims["aud"]), verifier.cfg.Audience)
		case ruleName(verifier.cfg.UserClaim, errNotString).text:
			note("The user id is read from the claim %q, which is %s here.", verifier.cfg.UserClaim, asJSON(e.Claims[verifier.cfg.UserClaim]))
		}
	}
	if _, present := e.Claims["iat"]; !present {
		note("It has no iat: once its user is disconnected it is refused, since nobody can tell whether it was issued before.")
	}
	if _, present := e.Claims["jti"]; !present {
		note("It has no jti: it cannot be revoked by itself, only together with all tokens of its user.")
	}
	return list
}

// asJSON is a value of a claim as the token has it; "missing" where it has none.
func asJSON(value any) string {
	if value == nil {
		return "missing or null"
	}
	text, err := json.Marshal(value)
	if err != nil {
		return "unreadable"
	}
	const enough = 100
	if len(text) > enough {
		return strings.ToValidUTF8(string(text[:enough]), "") + "..."
	}
	return string(text)
}

// explainDates says what the dates of claims mean now.
func explainDates(claims map[string]any, leeway time.Duration, now time.Time) []ExplainedDate {
	var dates []ExplainedDate
	for _, claim := range []string{"iat", "nbf", "exp"} {
		date, isDate := dateOf(claims[claim])
		if !isDate {
			continue
		}
		dates = append(dates, ExplainedDate{Claim: claim, Time: date, Words: dateInWords(claim, date, leeway, now)})
	}
	slices.SortStableFunc(dates, func(a, b ExplainedDate) int { return a.Time.Compare(b.Time) })
	return dates
}

func dateInWords(claim string, date time.Time, leeway time.Duration, now time.Time) string {
	distance := now.Sub(date).Round(time.Second)
	past := distance >= 0
	words := durationInWords(distance.Abs())
	within := ""
	if distance.Abs() < leeway {
		within = fmt.Sprintf(", within the leeway of %v", leeway)
	}
	switch {
	case claim == "exp" && past:
		return "expired " + words + " ago" + within
	case claim == "exp":
		return "expires in " + words
	case claim == "nbf" && past:
		return "good since " + words + " ago"
	case claim == "nbf":
		return "not good before " + words + " from now" + within
	case past:
		return "issued " + words + " ago"
	}
	return "issued " + words + " in the future" + within
}

// durationInWords tells a duration by its largest unit, and by two where one is rough.
func durationInWords(d time.Duration) string {
	const day = 24 * time.Hour
	units := []struct {
		size time.Duration
		name string
	}{{365 * day, "year"}, {day, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}}
	count := func(n time.Duration, name string) string {
		if n != 1 {
			name += "s"
		}
		return fmt.Sprintf("%d %s", n, name)
	}
	for i, unit := range units {
		n := d / unit.size
		if n == 0 {
			continue
		}
		text := count(n, unit.name)
		if i+1 < len(units) && n < 3 {
			if rest := (d % unit.size) / units[i+1].size; rest > 0 {
				text += " " + count(rest, units[i+1].name)
			}
		}
		return text
	}
	return "less than a second"
}

// tooLargeForSeconds returns the date that value would be in milliseconds, if it is one of this time.
func tooLargeForSeconds(value any) (time.Time, bool) {
	number, isNumber := value.(json.Number)
	if !isNumber {
		return time.Time{}, false
	}
	milliseconds, err := number.Int64()
	if err != nil || milliseconds/1000 < 1e9 || milliseconds/1000 > 1e10 {
		return time.Time{}, false
	}
	return time.UnixMilli(milliseconds).UTC(), true
}
