package main

import (
	"slices"
	"strings"
	"time"

	"github.com/reelay/reelay/auth"
)

const (
	secretSetting       = "REELAY_JWT_SECRET"
	secretFileSetting   = "REELAY_JWT_SECRET_FILE"
	previousSetting     = "REELAY_JWT_PREVIOUS_SECRET"
	previousFileSetting = "REELAY_JWT_PREVIOUS_SECRET_FILE"
	publicKeySetting    = "REELAY_JWT_PUBLIC_KEY_FILE"
	jwksSetting         = "REELAY_JWKS_URL"

	jwtSecretExample     = `the output of: openssl rand -base64 48`
	jwtSecretFileExample = "/run/secrets/jwt_secret"
	jwtPublicKeyExample  = "/etc/reelay/issuer.pem"
	jwksExample          = "https://issuer.example.com/.well-known/jwks.json"
)

// jwtFlags say which tokens are good. They belong to the commands that verify tokens and that make them.
type jwtFlags struct {
	JWTSecret             auth.Secret `setting:"REELAY_JWT_SECRET" group:"JWT" placeholder:"SECRET" help:"Secret shared with whoever issues the tokens (HS256, HS384, HS512), at least 32 bytes, taken as it stands."`
	JWTSecretFile         string      `setting:"REELAY_JWT_SECRET_FILE" group:"JWT" placeholder:"PATH" help:"File that holds the shared secret; a newline at its end is no part of it."`
	JWTPreviousSecret     auth.Secret `setting:"REELAY_JWT_PREVIOUS_SECRET" group:"JWT" placeholder:"SECRET" help:"The shared secret before this one, whose tokens are still good: to replace a secret without signing anybody out."`
	JWTPreviousSecretFile string      `setting:"REELAY_JWT_PREVIOUS_SECRET_FILE" group:"JWT" placeholder:"PATH" help:"File that holds the previous secret."`
	JWTPublicKeyFile      string      `setting:"REELAY_JWT_PUBLIC_KEY_FILE" group:"JWT" placeholder:"PATH,..." help:"PEM files with the issuer's public keys instead (RSA, ECDSA, Ed25519), one or more in each."`
	JWKSURL               secretURL   `name:"jwks-url" setting:"REELAY_JWKS_URL" group:"JWT" placeholder:"URL" help:"Where the issuer publishes its public keys as a JWKS; fetched every five minutes, and when a token has a new one."`
	JWKSInsecure          bool        `name:"jwks-insecure" setting:"REELAY_JWKS_INSECURE" group:"JWT" help:"Take keys over plain http, on which anybody on the way can exchange them."`
	JWTIssuer             string      `setting:"REELAY_JWT_ISSUER" group:"JWT" placeholder:"TEXT" help:"What iss must be in a token; not looked at when empty."`
	JWTAudience           string      `setting:"REELAY_JWT_AUDIENCE" group:"JWT" placeholder:"TEXT" help:"What aud must be or contain; not looked at when empty."`
	JWTUserClaim          string      `setting:"REELAY_JWT_USER_CLAIM" group:"JWT" default:"sub" placeholder:"sub" help:"The claim that holds the user id, which is compared with the owner column."`
	JWTLeeway             string      `setting:"REELAY_JWT_LEEWAY" group:"JWT" default:"30s" placeholder:"30s" help:"How far the issuer's clock may be off: for so long a token is good after its end. 1s to 10m."`
	JWTMaxLifetime        string      `setting:"REELAY_JWT_MAX_LIFETIME" group:"JWT" placeholder:"24h" help:"The longest a token may be good for, from iat to exp; no limit when empty."`
}

// keySettings returns the settings that give keys and are set: those of shared secrets, current and previous, and those
// of public keys.
func (f jwtFlags) keySettings() (current, previous, public []string) {
	add := func(list *[]string, set bool, setting string) {
		if set {
			*list = append(*list, setting)
		}
	}
	add(&current, !f.JWTSecret.IsZero(), secretSetting)
	add(&current, f.JWTSecretFile != "", secretFileSetting)
	add(&previous, !f.JWTPreviousSecret.IsZero(), previousSetting)
	add(&previous, f.JWTPreviousSecretFile != "", previousFileSetting)
	add(&public, f.JWTPublicKeyFile != "", publicKeySetting)
	add(&public, !f.JWKSURL.IsZero(), jwksSetting)
	return current, previous, public
}

// hasKeys reports whether there is a key to verify tokens with.
func (f jwtFlags) hasKeys() bool {
	current, previous, public := f.keySettings()
	return len(current)+len(previous)+len(public) > 0
}

// config returns what package auth needs to know. Whether a value is right is for auth to say; here its answers get the
// name of the setting they are about.
func (f jwtFlags) config(c *checker) auth.Config {
	config := auth.Config{Issuer: f.JWTIssuer, Audience: f.JWTAudience, UserClaim: f.JWTUserClaim}
	f.keys(c, &config)
	// Asked apart from the keys, so that both can be wrong at once.
	standIn := auth.Config{Secrets: []auth.Secret{auth.NewSecret(strings.Repeat(".", 32))}}
	claim := standIn
	claim.UserClaim = f.JWTUserClaim
	checkJWT(c, "REELAY_JWT_USER_CLAIM", "sub", claim)
	config.Leeway = f.leeway(c, standIn)
	config.MaxLifetime = f.maxLifetime(c)
	return config
}

// keys fills in the keys of config.
func (f jwtFlags) keys(c *checker, config *auth.Config) {
	current, previous, public := f.keySettings()
	secrets := slices.Concat(current, previous)
	exclusive := func(given []string) {
		c.reject(given[0], "the one your issuer signs with", "is set together with %s; keep one of them", strings.Join(given[1:], " and "))
	}
	switch {
	case len(secrets)+len(public) == 0:
		c.reject(secretSetting, jwtSecretExample, "is not set, and neither is %s, %s nor %s", secretFileSetting, publicKeySetting, jwksSetting)
	case len(secrets) > 0 && len(public) > 0:
		// One of them would be enough to get in: a public key, which everybody has, is never to stand beside a secret.
		exclusive(slices.Concat(secrets, public))
	case len(current) > 1:
		exclusive(current)
	case len(previous) > 1:
		exclusive(previous)
	case len(current) == 0 && len(previous) > 0:
		c.reject(previous[0], jwtSecretExample, "is set, and %s is not: the previous secret goes beside the current one", secretSetting)
	case len(current) > 0:
		config.Secrets = append(config.Secrets, f.secret(c, current[0], f.JWTSecret, f.JWTSecretFile))
		if len(previous) > 0 {
			config.Secrets = append(config.Secrets, f.secret(c, previous[0], f.JWTPreviousSecret, f.JWTPreviousSecretFile))
		}
	default:
		f.publicKeys(c, config)
	}
}

// secret returns the secret of a setting, which is the value itself or the path of a file with it.
func (f jwtFlags) secret(c *checker, setting string, value auth.Secret, path string) auth.Secret {
	example := jwtSecretExample
	if path != "" {
		value = auth.NewSecret(c.file(setting, path, jwtSecretFileExample))
		example = "a file with " + jwtSecretExample
	}
	if !value.IsZero() {
		checkJWT(c, setting, example, auth.Config{Secrets: []auth.Secret{value}})
	}
	return value
}

// publicKeys fills in the key files and the JWKS of config.
func (f jwtFlags) publicKeys(c *checker, config *auth.Config) {
	if f.JWTPublicKeyFile != "" {
		for path := range strings.SplitSeq(f.JWTPublicKeyFile, ",") {
			if path = strings.TrimSpace(path); path != "" {
				config.PublicKeyFiles = append(config.PublicKeyFiles, path)
			}
		}
		if len(config.PublicKeyFiles) == 0 {
			c.reject(publicKeySetting, jwtPublicKeyExample, "names no file")
		} else {
			checkJWT(c, publicKeySetting, jwtPublicKeyExample, auth.Config{PublicKeyFiles: config.PublicKeyFiles})
		}
	}
	if !f.JWKSURL.IsZero() {
		config.JWKSURL, config.JWKSInsecure = f.JWKSURL.Reveal(), f.JWKSInsecure
		checkJWT(c, jwksSetting, jwksExample, auth.Config{JWKSURL: config.JWKSURL, JWKSInsecure: config.JWKSInsecure})
	}
}

func (f jwtFlags) leeway(c *checker, standIn auth.Config) time.Duration {
	const setting, example = "REELAY_JWT_LEEWAY", "30s"
	leeway, err := time.ParseDuration(f.JWTLeeway)
	switch {
	case err != nil:
		c.reject(setting, example, "%q is not a duration in hours, minutes and seconds", f.JWTLeeway)
		return 0
	case leeway < time.Second: // 0 would mean the default, and no two clocks are the same
		c.reject(setting, example, "%q is shorter than a second", f.JWTLeeway)
		return 0
	}
	standIn.Leeway = leeway
	checkJWT(c, setting, example, standIn)
	return leeway
}

func (f jwtFlags) maxLifetime(c *checker) time.Duration {
	const setting, example = "REELAY_JWT_MAX_LIFETIME", "24h"
	if f.JWTMaxLifetime == "" {
		return 0
	}
	lifetime, err := time.ParseDuration(f.JWTMaxLifetime)
	switch {
	case err != nil:
		c.reject(setting, example, "%q is not a duration in hours, minutes and seconds", f.JWTMaxLifetime)
	case lifetime < time.Second:
		c.reject(setting, example, "%q is shorter than a second, and would refuse every token", f.JWTMaxLifetime)
	}
	return lifetime
}

func checkJWT(c *checker, setting, example string, config auth.Config) {
	if _, err := auth.NewVerifier(config); err != nil {
		c.reject(setting, example, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}
