// Package auth turns a token that a stranger sent into a Principal, or refuses it. It is the only home of JWT.
//
// # What it promises
//
//   - The configured key decides which algorithms are accepted, never the token: HS256, HS384 and HS512 for a shared
//     secret; RS* and PS* for an RSA key; the one ES* of an ECDSA key's curve; EdDSA for an Ed25519 key. No header of a
//     token names, carries or fetches a key.
//   - One spelling per token. What another reader could understand differently is refused: padded or non-canonical
//     base64, white space, a member twice at any depth, text that is no UTF-8, a claim in other letters (SUB is not sub).
//   - Nothing of a payload is looked at before its signature was found right, and nothing at all of a token over
//     MaxTokenBytes. Payloads of strangers never reach a JSON parser.
//   - A token without a believable end is refused: exp must be a number of seconds between 1970 and 9999. One whose nbf
//     or iat lies in the future is refused as well, all three with Config.Leeway. iss and aud must match where they are
//     configured, and are ignored where they are not.
//   - A user id is 1 to 256 bytes of UTF-8 without control characters, and opaque: "*", "a:b" and "u1 " are user ids like
//     any other. Whoever puts one into a channel name, a query or a log line encodes it first.
//   - No error contains a part of the token or of the secret, and Config and Verifier can be printed and logged as they
//     are. Errors say which rule refused a token, in words from a fixed list: good for a log, and not for the client.
//   - A Verifier has no state that changes. It is safe for concurrent use and starts nothing that had to be stopped.
//
// # What it does not do
//
// It keeps no list of tokens: the same token is good until it expires, and whoever revokes tokens does it by
// Principal.TokenID. It reads a key file once, so that a new key needs a restart. Of a certificate it takes the key and
// nothing else: neither dates nor issuer are checked. An ECDSA signature has a twin that is as valid, so that two texts
// can be the same token: tell tokens apart by TokenID, not by their text.
//
// # The way of a token
//
//	BearerFromHeader      where it comes from; two credentials that differ are refused
//	  parse               size, alphabet, three segments, header rules        token.go, strict.go
//	  keyset.verify       algorithm pinned by the key, signature              keys.go
//	  decodeObject        strict JSON                                         strict.go
//	  Verifier.principal  claims; the expiry last                             claims.go
package auth
