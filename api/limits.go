package api

import (
	"time"

	"golang.org/x/time/rate"
)

// Limits bounds what clients may take. Where one is reached, the client is told, and reelay_limited_total counts it.
type Limits struct {
	// Connections is how many there may be on this replica, of any transport, long polls included.
	Connections int
	// ConnectionsPerUser is how many of them one user may have on this replica.
	ConnectionsPerUser int
	// ConnectionsPerIP is how many of them one address may have; of IPv6, one /64. See clientAddress for whose address
	// is known.
	ConnectionsPerIP int
	// ConnectRatePerIP is how many connections an address may begin in a second, and twice as many at once.
	ConnectRatePerIP float64
	// ConnectRatePerUser is how many connections and tickets a user may begin in a second; at once, as many as there may be.
	ConnectRatePerUser float64
	// AuthTimeout is how long a WebSocket may go without a token.
	AuthTimeout time.Duration
	// FrameRate is how many frames, pings included, a client may send in a second, and four times as many at once.
	FrameRate float64
	// FrameSize is the largest frame a client may send, in bytes.
	FrameSize int64
	// Videos is how many videos a connection may filter.
	Videos int
	// HeaderSize is how many bytes of headers a request may have; net/http adds 4 KiB of slack.
	HeaderSize int
	// HeaderTimeout is how long a client may take to send them.
	HeaderTimeout time.Duration
}

// DefaultLimits returns the limits for a replica in production.
func DefaultLimits() Limits {
	return Limits{
		Connections: 50_000, ConnectionsPerUser: 1000, ConnectionsPerIP: 1000,
		ConnectRatePerIP: 100, ConnectRatePerUser: 20, AuthTimeout: 5 * time.Second,
		FrameRate: 10, FrameSize: 12 << 10, Videos: 100, HeaderSize: 12 << 10, HeaderTimeout: 5 * time.Second,
	}
}

func newFrameLimiter(limits Limits) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(limits.FrameRate), int(frameBurst*limits.FrameRate))
}

// limit names one of Limits, as the label of a metric.
type limit string

const (
	limitConnections limit = "connections"
	limitPerUser     limit = "connections_per_user"
	limitPerIP       limit = "connections_per_ip"
	limitRatePerUser limit = "connect_rate_per_user"
	limitRatePerIP   limit = "connect_rate_per_ip"
	limitHeaders     limit = "headers" // too many, or too slow
	limitVideos      limit = "videos"
	limitFrameRate   limit = "frame_rate"
	limitFrameSize   limit = "frame_size"
	limitAuth        limit = "auth_timeout"
)

// allLimits is all of them, so that each metric stands at 0 from the start.
var allLimits = []limit{
	limitConnections, limitPerUser, limitPerIP, limitRatePerUser, limitRatePerIP, limitHeaders, limitVideos,
	limitFrameRate, limitFrameSize, limitAuth,
}

// reached counts that a limit was, and returns how a client is told.
func (s *Server) reached(l limit) *problem {
	s.metrics.limited.WithLabelValues(string(l)).Inc()
	switch l {
	case limitVideos:
		return errTooManyVideos
	case limitFrameRate:
		return errRateLimited
	case limitFrameSize:
		return errTooBig
	case limitAuth:
		return errAuthTimeout
	}
	return errTooManyConnects
}
