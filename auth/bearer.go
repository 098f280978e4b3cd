package auth

import (
	"fmt"
	"net/http"
	"strings"
)

// BearerSubprotocol begins the entry of Sec-WebSocket-Protocol that carries a token, for browsers, whose WebSocket can
// set no other header. A server must never answer with such an entry.
const BearerSubprotocol = "reelay.bearer."

// Source says where in a request a token was found.
type Source string

// The sources, by the names that logs and metrics give them.
const (
	SourceAuthorization Source = "authorization"
	SourceSubprotocol   Source = "subprotocol"
)

// BearerFromHeader finds the one bearer token of a request: in "Authorization: Bearer <token>" or in the entry
// "reelay.bearer.<token>" of Sec-WebSocket-Protocol. The token is not verified.
//
// The same token in both places is fine, and counts as found in Authorization. Two that differ, two Authorization
// headers or two such entries are ErrAmbiguousCredentials: which of them counts must not depend on who reads. A bearer
// credential that is not exactly one word is ErrInvalidToken. None at all is ErrNoToken. That is also the answer to
// another scheme, such as the Basic that a browser adds by itself behind a proxy that asks for a password.
func BearerFromHeader(header http.Header) (token string, source Source, err error) {
	byAuthorization, inAuthorization, err := fromAuthorization(header.Values("Authorization"))
	if err != nil {
		return "", "", err
	}
	bySubprotocol, inSubprotocol, err := fromSubprotocols(header.Values("Sec-WebSocket-Protocol"))
	if err != nil {
		return "", "", err
	}
	switch {
	case inAuthorization && inSubprotocol && byAuthorization != bySubprotocol:
		return "", "", fmt.Errorf("%w: Authorization and Sec-WebSocket-Protocol differ", ErrAmbiguousCredentials)
	case inAuthorization:
		return byAuthorization, SourceAuthorization, nil
	case inSubprotocol:
		return bySubprotocol, SourceSubprotocol, nil
	}
	return "", "", ErrNoToken
}

func fromAuthorization(values []string) (token string, found bool, err error) {
	if len(values) == 0 {
		return "", false, nil
	}
	if len(values) > 1 {
		return "", false, fmt.Errorf("%w: more than one Authorization header", ErrAmbiguousCredentials)
	}
	scheme, token := values[0], ""
	if end := strings.IndexAny(scheme, " \t"); end >= 0 {
		// One separator is taken off. Another one stays with the token, where it is refused.
		scheme, token = scheme[:end], scheme[end+1:]
	}
	if !strings.EqualFold(scheme, "Bearer") {
		return "", false, nil
	}
	if token == "" || strings.ContainsAny(token, " \t,") {
		return "", false, invalid(ruleAuthorizationHeader)
	}
	return token, true, nil
}

func fromSubprotocols(values []string) (token string, found bool, err error) {
	for _, value := range values {
		for entry := range strings.SplitSeq(value, ",") {
			text, isBearer := strings.CutPrefix(strings.Trim(entry, " \t"), BearerSubprotocol)
			if !isBearer {
				continue
			}
			if found {
				return "", false, fmt.Errorf("%w: more than one bearer entry in Sec-WebSocket-Protocol", ErrAmbiguousCredentials)
			}
			token, found = text, true
		}
	}
	if found && (token == "" || strings.ContainsAny(token, " \t")) {
		return "", false, invalid(ruleSubprotocolEntry)
	}
	return token, found, nil
}
