package auth

// rule is one reason to refuse a token. What came from a token is in neither text, so that rules can be logged, counted
// and shown to anybody.
type rule struct {
	// text says what is wrong: for a log, not for the client.
	text string
	// advice says what whoever runs the issuer or the gateway can do about it.
	advice string
}

// refusal is the error of a token that a rule refused.
type refusal struct {
	kind error // ErrInvalidToken or ErrExpiredToken
	rule rule
}

// Error implements error.
func (r refusal) Error() string { return r.kind.Error() + ": " + r.rule.text }

// Unwrap returns the kind, for errors.Is.
func (r refusal) Unwrap() error { return r.kind }

// invalid is ErrInvalidToken with the rule that refused the token.
func invalid(r rule) error { return refusal{ErrInvalidToken, r} }

// The rules of where a token comes from.
var (
	ruleAuthorizationHeader = rule{
		"Authorization does not hold exactly one token",
		"Send one header of the form \"Authorization: Bearer TOKEN\", with one space and nothing behind the token.",
	}
	ruleSubprotocolEntry = rule{
		"Sec-WebSocket-Protocol does not hold exactly one token",
		"Offer one subprotocol of the form " + BearerSubprotocol + "TOKEN beside the gateway's own.",
	}
)

// The rules of a token's form (RFC 7515 section 7.1).
var (
	ruleTooLong = rule{
		"too long",
		"Over 8 KiB is more than browsers and proxies carry. Have the issuer leave out claims that the gateway does not need.",
	}
	ruleAlphabet = rule{
		"a byte that is not base64url",
		"Pass on the token as it was issued: no white space, no quotes, no padding, no \"Bearer\" before it.",
	}
	ruleSegments = rule{
		"not three segments",
		"A token has the form header.payload.signature. Five segments are an encrypted token (JWE), which is not supported; one is no JWT but an opaque token: ask the issuer for a signed JWT.",
	}
	ruleCanonical = rule{
		"a segment is not canonical base64url",
		"It was cut off, changed on its way, or encoded by a library that is not exact. Compare it with what the issuer made.",
	}
	ruleEmptySegment = rule{
		"a segment is empty",
		"A token without a signature, or a part of one. Have the issuer sign its tokens.",
	}
)

// The rules of the header.
var (
	ruleCrit = rule{
		"header: crit is not supported",
		"The issuer demands an extension that the gateway does not know. Have it issue plain tokens (RFC 7515 section 4.1.11).",
	}
	ruleB64 = rule{
		"header: b64 is not supported",
		"Have the issuer encode payloads in the usual way (RFC 7797 is not supported).",
	}
	ruleType = rule{
		"header: typ is neither JWT nor at+jwt",
		"It is a token for another purpose, such as logout+jwt. Send the access token.",
	}
	ruleAlgMissing = rule{
		"header: alg is missing or not a string",
		"No usual issuer makes this. Compare the token with what the issuer made.",
	}
	ruleKeyID = rule{
		"header: kid is not a string",
		"Have the issuer name its keys by strings (RFC 7515 section 4.1.4).",
	}
)

// The rules of the signature.
var (
	ruleAlg = rule{
		"header: alg is none that the configured keys allow",
		"The algorithm belongs to another kind of key than the gateway has: HS* need the shared secret, RS* and PS* an RSA key, ES* an ECDSA key of their own curve, EdDSA an Ed25519 key. Configure the key of the issuer that made the token.",
	}
	ruleUnknownKey = rule{
		"header: kid names no key of the key server",
		"The issuer signed with a key that is not in the JWKS. If it has just rotated its keys the next fetch brings the new one, within seconds; otherwise the token is of another issuer or the JWKS URL that of another tenant.",
	}
	ruleNoKeys = rule{
		"the key server has given no keys yet",
		"Nothing is accepted until it does. The gateway's log says what its answer was; try the JWKS URL with curl from the same machine.",
	}
	ruleSignature = rule{
		"the signature does not match",
		"The token was signed with another key of the same kind, or changed afterwards. Compare the gateway's key with the issuer's; a shared secret is taken byte for byte, so one in base64 is not decoded.",
	}
)

// The rules of the claims (RFC 7519 section 4.1).
var (
	ruleIssuer = rule{
		"iss is not the configured issuer",
		"Compare both byte for byte: a slash at the end counts. Set the gateway's issuer to what the tokens say, if that is who you trust.",
	}
	ruleAudience = rule{
		"aud is not the configured audience",
		"The token is for another service. Have the issuer name the gateway's audience in it, or set the gateway's audience to what the tokens say.",
	}
	ruleExp = rule{
		"exp is missing or not a number of seconds between 1970 and 9999",
		"Have the issuer set exp as a number of seconds since 1970: not milliseconds, not a string.",
	}
	ruleLifetime = rule{
		"good for longer than the configured maximum lifetime",
		"Have the issuer make shorter tokens, or raise the gateway's maximum lifetime.",
	}
	ruleExpired = rule{
		"exp has passed",
		"Get a fresh token from the issuer. If this one is fresh, compare the clocks of issuer and gateway.",
	}
)

const adviceName = "1 to 256 bytes of UTF-8 without control characters are needed, as a JSON string: a number has to be written in quotes."

// malformed is the rule for JSON of part, header or payload, that decodeObject refused with err, one of a fixed list.
func malformed(part string, err error) rule {
	return rule{part + ": " + err.Error(), "It does not have one meaning to every reader (RFC 7493). Compare the token with what the issuer made."}
}

// ruleName is the rule for a name, in claim, that nameClaim refused with err, one of a fixed list.
func ruleName(claim string, err error) rule {
	if claim == "jti" {
		return rule{"jti: " + err.Error(), "Leave jti out or make it an id: " + adviceName}
	}
	return rule{"user claim: " + err.Error(), "The claim that the gateway is set to must hold the user id. " + adviceName}
}

// ruleNoDate and ruleFuture are about claim, which is nbf or iat.
func ruleNoDate(claim string) rule {
	return rule{claim + " is not a number of seconds between 1970 and 9999", "Have the issuer set " + claim + " as a number of seconds since 1970, or leave it out."}
}

func ruleFuture(claim string) rule {
	return rule{claim + " is in the future", "The issuer's clock is ahead of the gateway's by more than the leeway, or the token is not to be used yet. Compare the clocks."}
}
