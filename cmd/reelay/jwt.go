package main

import (
	"strings"

	"github.com/reelay/reelay/auth"
)

const (
	jwtSecretExample     = `the output of: openssl rand -base64 48`
	jwtSecretFileExample = "/run/secrets/jwt_secret"
	jwtPublicKeyExample  = "/etc/reelay/issuer.pem"
)

// jwtFlags say which tokens are good. They belong to the commands that verify tokens and that make them.
type jwtFlags struct {
	JWTSecret        auth.Secret `setting:"REELAY_JWT_SECRET" group:"JWT" placeholder:"SECRET" help:"Secret shared with whoever issues the tokens (HS256, HS384, HS512), at least 32 bytes, taken as it stands."`
	JWTSecretFile    string      `setting:"REELAY_JWT_SECRET_FILE" group:"JWT" placeholder:"PATH" help:"File that holds the shared secret; a newline at its end is no part of it."`
	JWTPublicKeyFile string      `setting:"REELAY_JWT_PUBLIC_KEY_FILE" group:"JWT" placeholder:"PATH" help:"PEM file with the issuer's public key instead (RSA, ECDSA, Ed25519)."`
	JWTIssuer        string      `setting:"REELAY_JWT_ISSUER" group:"JWT" placeholder:"TEXT" help:"What iss must be in a token; not looked at when empty."`
	JWTAudience      string      `setting:"REELAY_JWT_AUDIENCE" group:"JWT" placeholder:"TEXT" help:"What aud must be or contain; not looked at when empty."`
	JWTUserClaim     string      `setting:"REELAY_JWT_USER_CLAIM" group:"JWT" default:"sub" placeholder:"sub" help:"The claim that holds the user id, which is compared with the owner column."`
}

// config returns what package auth needs to know. Whether a value is right is for auth to say; here its answers get the
// name of the setting they are about.
func (f jwtFlags) config(c *checker) auth.Config {
	const secretSetting, fileSetting, keySetting = "REELAY_JWT_SECRET", "REELAY_JWT_SECRET_FILE", "REELAY_JWT_PUBLIC_KEY_FILE"
	config := auth.Config{Issuer: f.JWTIssuer, Audience: f.JWTAudience, UserClaim: f.JWTUserClaim}
	var given []string
	if !f.JWTSecret.IsZero() {
		given = append(given, secretSetting)
	}
	if f.JWTSecretFile != "" {
		given = append(given, fileSetting)
	}
	if f.JWTPublicKeyFile != "" {
		given = append(given, keySetting)
	}
	switch {
	case len(given) == 0:
		c.reject(secretSetting, jwtSecretExample, "is not set, and neither is %s nor %s", fileSetting, keySetting)
	case len(given) > 1:
		c.reject(given[0], "the one your issuer signs with", "is set together with %s; keep one of them", strings.Join(given[1:], " and "))
	case given[0] == secretSetting:
		config.Secret = f.JWTSecret
		checkJWT(c, secretSetting, jwtSecretExample, auth.Config{Secret: config.Secret})
	case given[0] == fileSetting:
		config.Secret = auth.NewSecret(c.file(fileSetting, f.JWTSecretFile, jwtSecretFileExample))
		if !config.Secret.IsZero() {
			checkJWT(c, fileSetting, "a file with "+jwtSecretExample, auth.Config{Secret: config.Secret})
		}
	default:
		config.PublicKeyFile = f.JWTPublicKeyFile
		checkJWT(c, keySetting, jwtPublicKeyExample, auth.Config{PublicKeyFile: f.JWTPublicKeyFile})
	}
	// Asked apart from the key, so that both can be wrong at once.
	checkJWT(c, "REELAY_JWT_USER_CLAIM", "sub", auth.Config{Secret: auth.NewSecret(strings.Repeat(".", 32)), UserClaim: f.JWTUserClaim})
	return config
}

func checkJWT(c *checker, setting, example string, config auth.Config) {
	if _, err := auth.NewVerifier(config); err != nil {
		c.reject(setting, example, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}
