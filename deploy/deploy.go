// Package deploy holds what it takes to run Reelay on real machines: image, compose file, Kubernetes manifests, proxy
// configuration. None of it is Go; the package exists so that a program can carry one of the files along.
package deploy

import _ "embed"

// HAProxy is haproxy.cfg. What it needs to know of its surroundings it takes from the environment; its head says what.
//
//go:embed haproxy.cfg
var HAProxy []byte
