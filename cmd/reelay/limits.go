package main

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/reelay/reelay/api"
)

// limitFlags bound what clients may take. Defaults are those of api.DefaultLimits, which a test holds them to.
type limitFlags struct {
	MaxConnections        string `setting:"REELAY_MAX_CONNECTIONS" group:"Limits" default:"50000" placeholder:"50000" help:"Connections on this replica; about 15 KB each."`
	MaxConnectionsPerUser string `setting:"REELAY_MAX_CONNECTIONS_PER_USER" group:"Limits" default:"1000" placeholder:"1000" help:"Connections of one user on this replica."`
	MaxConnectionsPerIP   string `setting:"REELAY_MAX_CONNECTIONS_PER_IP" group:"Limits" default:"1000" placeholder:"1000" help:"Connections of one address (of IPv6, one /64) on this replica. Private addresses count only where trusted proxies are named: unnamed, they are balancers."`
	ConnectRatePerUser    string `setting:"REELAY_CONNECT_RATE_PER_USER" group:"Limits" default:"20" placeholder:"20" help:"Connections and tickets that a user may begin in a second."`
	ConnectRatePerIP      string `setting:"REELAY_CONNECT_RATE_PER_IP" group:"Limits" default:"100" placeholder:"100" help:"Connections that an address may begin in a second."`
	AuthTimeout           string `setting:"REELAY_AUTH_TIMEOUT" group:"Limits" default:"5s" placeholder:"5s" help:"How long a WebSocket may go without a token."`
	FrameRate             string `setting:"REELAY_FRAME_RATE" group:"Limits" default:"10" placeholder:"10" help:"Frames a client may send in a second, and four times as many at once."`
	MaxFrameBytes         string `setting:"REELAY_MAX_FRAME_BYTES" group:"Limits" default:"12288" placeholder:"12288" help:"The largest frame a client may send; a token of 8 KiB has to fit."`
	MaxVideos             string `setting:"REELAY_MAX_VIDEOS" group:"Limits" default:"100" placeholder:"100" help:"Videos that a connection may filter."`
	MaxHeaderBytes        string `setting:"REELAY_MAX_HEADER_BYTES" group:"Limits" default:"12288" placeholder:"12288" help:"Headers of a request, all together, and 4 KiB of slack."`
	HeaderTimeout         string `setting:"REELAY_HEADER_TIMEOUT" group:"Limits" default:"5s" placeholder:"5s" help:"How long a client may take to send them."`
}

// minFrameBytes is what a token of the largest size needs, as an auth frame.
const minFrameBytes = 9 << 10

func (f limitFlags) config(c *checker) api.Limits {
	return api.Limits{
		Connections:        c.number("REELAY_MAX_CONNECTIONS", f.MaxConnections, 1, 10_000_000),
		ConnectionsPerUser: c.number("REELAY_MAX_CONNECTIONS_PER_USER", f.MaxConnectionsPerUser, 1, 10_000_000),
		ConnectionsPerIP:   c.number("REELAY_MAX_CONNECTIONS_PER_IP", f.MaxConnectionsPerIP, 1, 10_000_000),
		ConnectRatePerUser: float64(c.number("REELAY_CONNECT_RATE_PER_USER", f.ConnectRatePerUser, 1, 1_000_000)),
		ConnectRatePerIP:   float64(c.number("REELAY_CONNECT_RATE_PER_IP", f.ConnectRatePerIP, 1, 1_000_000)),
		AuthTimeout:        c.duration("REELAY_AUTH_TIMEOUT", "5s", f.AuthTimeout, time.Second, time.Minute),
		FrameRate:          float64(c.number("REELAY_FRAME_RATE", f.FrameRate, 1, 10_000)),
		FrameSize:          int64(c.number("REELAY_MAX_FRAME_BYTES", f.MaxFrameBytes, minFrameBytes, 1<<20)),
		Videos:             c.number("REELAY_MAX_VIDEOS", f.MaxVideos, 1, 10_000),
		HeaderSize:         c.number("REELAY_MAX_HEADER_BYTES", f.MaxHeaderBytes, 4<<10, 1<<20),
		HeaderTimeout:      c.duration("REELAY_HEADER_TIMEOUT", "5s", f.HeaderTimeout, time.Second, time.Minute),
	}
}

// number reads a whole number between least and most.
func (c *checker) number(setting, value string, least, most int) int {
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		c.reject(setting, strconv.Itoa(max(least, min(most, 100))), "%q is not a whole number from %d to %d", value, least, most)
	}
	return n
}

// duration reads a duration between least and most.
func (c *checker) duration(setting, example, value string, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(value)
	if err != nil || d < least || d > most {
		c.reject(setting, example, "%q is not a duration from %v to %v", value, least, most)
	}
	return d
}

// checkProxies reads a list of addresses and networks.
func checkProxies(c *checker, setting, list string) []string {
	var proxies []string
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		if _, err := netip.ParseAddr(entry); err != nil {
			if _, err := netip.ParsePrefix(entry); err != nil {
				c.reject(setting, "10.0.0.0/8", "%q is neither an address nor a network", entry)
				continue
			}
		}
		proxies = append(proxies, entry)
	}
	return proxies
}
