// Package auth turns a token that a stranger sent into a Principal, or refuses it. It is the only home of JWT.
//
// # What it promises
//
//   - The configured keys decide which algorithms are accepted, never the token: HS256, HS384 and HS512 for a shared
//     secret; RS* and PS* for an RSA key; the one ES* of an ECDSA key's curve; EdDSA for an Ed25519 key; and only the one
//     that a key of a JWKS names in alg, if it does. No header of a token carries a key or the address of one. A shared
//     secret and public keys exclude each other.
//   - Several keys are good at once, so that they can be replaced without signing anybody out: shared secrets, keys in PEM
//     files, and those of a JWKS. A kid chooses among the keys of a JWKS; without one all keys of the algorithm are tried,
//     a bounded number.
//   - One spelling per token. What another reader could understand differently is refused: padded or non-canonical
//     base64, white space, a member twice at any depth, text that is no UTF-8, a claim in other letters (SUB is not sub).
//     A JWKS is read as strictly.
//   - Nothing of a payload is looked at before its signature was found right, and nothing at all of a token over
//     MaxTokenBytes. Payloads of strangers never reach a JSON parser, but by Explain, which is for their owners.
//   - A token without a believable end is refused: exp must be a number of seconds between 1970 and 9999. One whose nbf
//     or iat lies in the future is refused as well, all three with Config.Leeway. iss and aud must match where they are
//     configured, and are ignored where they are not.
//   - A user id is 1 to 256 bytes of UTF-8 without control characters, and opaque: "*", "a:b" and "u1 " are user ids like
//     any other. Whoever puts one into a channel name, a query or a log line encodes it first.
//   - No error contains a part of the token or of a secret, and Config and Verifier can be printed and logged as they
//     are. Errors say which rule refused a token, in words from a fixed list: good for a log, and not for the client.
//   - Verifier and Denylist are safe for concurrent use. NewVerifier starts nothing; Run is a goroutine's whole life.
//
// # The key server
//
// Verifier.Run fetches the JWKS at once and every five minutes, a tenth more or less. A token by a key that is not known
// asks for a fetch out of turn, and so does Run itself after one that failed; between the starts of two fetches lie five
// seconds at least, whatever happens, and never are two under way. So strangers cannot make us ask more often than that,
// and a new key is known within ten seconds of the first token by it.
//
//	     ┌──────────────────── every 5 min, or asked for ◀──────────────────┐
//	     ▼                                                                  │
//	fetching ── a set with a key for signatures ──▶ fresh: exactly these keys are good
//	     ▲ │
//	     │ └─── anything else: no answer in 5 s, a status, a redirect to another host, over 1 MiB, no JWKS, no key in it
//	     │                                            │
//	     └──────────── after 5 to 6 s ◀───────────────┘  what was good stays good; before the first set nothing is
//
// While the key server is away known keys stay good without a limit of time, and other tokens are refused as invalid. A
// set that has other keys and lacks one drops it; a set without any key is taken for a fault of the server. Verify waits
// only for a fetch that may bring the key it lacks, and two seconds at most.
//
// # What it does not do
//
// Verify does not know of revocations: that is asked of a Denylist with the Principal, when a session opens and again
// when something is revoked. Key files are read once, so that a new file needs a restart. Of a certificate it takes the
// key and nothing else: neither dates nor issuer are checked. An ECDSA signature has a twin that is as valid, so that two
// texts can be the same token: tell tokens apart by TokenID, not by their text.
//
// # The way of a token
//
//	BearerFromHeader      where it comes from; two credentials that differ are refused
//	  parse               size, alphabet, three segments, header rules        token.go, strict.go
//	  keyset.verify       algorithm pinned by the key, signature              keys.go
//	    keyServer.verify  the same, after a fetch if that may help            keyserver.go, fetch.go, jwk.go
//	  decodeObject        strict JSON                                         strict.go
//	  Verifier.principal  claims; the expiry last                             claims.go
//	Denylist.Check        was it revoked?                                     denylist.go
//	Explain               all of it for people                                explain.go, rules.go
package auth
