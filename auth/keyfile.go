package auth

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
)

// readKeyFile reads the public keys in the PEM file at path.
func readKeyFile(path string) (keyset, error) {
	// Asked first, and without naming the path: os.ReadFile's error would print what may be a private key.
	if strings.Contains(path, "-----BEGIN ") {
		return nil, errors.New("JWT public key file: this is a key, not the path of a file that holds one")
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read JWT public key file: %w", err)
	}
	keys, err := parsePEM(content)
	if err != nil {
		return nil, fmt.Errorf("JWT public key file %s: %w", path, err)
	}
	return keys, nil
}

// parsePEM reads the public keys of PEM, one or more, in their order. Text around the blocks is fine, as OpenSSL writes
// it there. One block that is no good public key is an error of the whole: a key that was meant to be there is missing.
func parsePEM(content []byte) (keyset, error) {
	var blocks []*pem.Block
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		// Before anything else is judged: a gateway that can sign tokens is the issuer's business lost with the gateway.
		if strings.Contains(block.Type, "PRIVATE KEY") {
			return nil, errors.New("holds a private key, which stays with the issuer; write its public half with: openssl pkey -in private.pem -pubout -out public.pem")
		}
		blocks = append(blocks, block)
	}
	// A block that is cut off ends the reading in silence.
	if begun := strings.Count("\n"+string(content), "\n-----BEGIN "); begun > len(blocks) && len(blocks) > 0 {
		return nil, fmt.Errorf("%d PEM blocks begin in it, and %d can be read", begun, len(blocks))
	}
	if len(blocks) == 0 {
		return nil, errors.New("no PEM block in it; turn a DER file into one with: openssl pkey -pubin -inform der -in public.der -out public.pem")
	}
	keys := make(keyset, 0, len(blocks))
	for i, block := range blocks {
		public, err := parseBlock(block)
		if err == nil {
			var k key
			if k, err = publicKey(public); err == nil {
				keys = append(keys, k)
				continue
			}
		}
		if len(blocks) > 1 {
			err = fmt.Errorf("block %d: %w", i+1, err)
		}
		return nil, err
	}
	return keys, nil
}

func parseBlock(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return certificate.PublicKey, nil
	}
	return nil, fmt.Errorf("PEM block %q: want PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE", block.Type)
}
