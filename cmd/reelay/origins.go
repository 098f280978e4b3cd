package main

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// checkOrigins reads a list of origins, and returns them as a browser spells them in its Origin header: that is what
// they will be compared with, byte for byte.
func checkOrigins(c *checker, setting, list string) []string {
	var origins []string
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		if origin, wrong := readOrigin(entry); wrong != "" {
			c.reject(setting, "https://app.example.com", "%s", wrong)
		} else if !slices.Contains(origins, origin) {
			origins = append(origins, origin)
		}
	}
	if len(origins) > 1 && slices.Contains(origins, "*") {
		c.reject(setting, "https://app.example.com", "* allows every origin, so the others beside it mean nothing; name the origins and leave * away")
	}
	return origins
}

// readOrigin returns one origin, or what is wrong with it.
func readOrigin(entry string) (origin, wrong string) {
	if entry == "*" {
		return entry, ""
	}
	if entry == "null" {
		return "", "null is the origin of sandboxed pages of anyone, and cannot be allowed"
	}
	address, err := url.Parse(entry)
	if err != nil || address.Scheme == "" || address.Host == "" || address.Hostname() == "" {
		if strings.Contains(entry, "@") { // what stands there may be a password
			return "", "an entry is not scheme://host[:port]"
		}
		return "", strconv.Quote(entry) + " is not scheme://host[:port]"
	}
	switch {
	case address.User != nil:
		return "", "an entry has a user name, which no origin has"
	case address.Path != "" || address.RawQuery != "" || address.Fragment != "" || address.ForceQuery || strings.HasSuffix(entry, "#"):
		return "", strconv.Quote(entry) + " has something after the host, which no origin has: write " + address.Scheme + "://" + address.Host
	case strings.Contains(address.Host, "*"):
		return "", strconv.Quote(entry) + " is a pattern; name each origin"
	case !ascii(address.Host):
		return "", strconv.Quote(entry) + " has letters beyond ASCII: write the host as browsers send it, in punycode (xn--...)"
	}
	host := strings.ToLower(address.Host)
	// A browser leaves the scheme's own port away.
	if name, port, err := net.SplitHostPort(host); err == nil && (port == "" || port == defaultPorts[address.Scheme]) {
		host = name
		if strings.Contains(name, ":") {
			host = "[" + name + "]"
		}
	}
	return address.Scheme + "://" + host, ""
}

var defaultPorts = map[string]string{"http": "80", "https": "443"}

func ascii(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r > 127 })
}
