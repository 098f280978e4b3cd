package auth

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics is what a Verifier with a JWKS tells about it. The zero value does not work; see NewMetrics. One Verifier has
// it to itself.
type Metrics struct {
	fetches *prometheus.CounterVec
	keys    prometheus.Gauge
	// since is when the set was got, in nanoseconds since 1970; before the first one when the wait for it began; 0 if
	// there is no JWKS.
	since atomic.Int64
}

// NewMetrics makes the metrics and registers them, unless registerer is nil.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	m := &Metrics{
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reelay_jwks_fetches_total", Help: "Fetches of the JWKS, by outcome. Whatever is not ok left the keys as they were.",
		}, []string{"outcome"}),
		keys: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "reelay_jwks_keys", Help: "Keys of the JWKS that tokens are checked with.",
		}),
	}
	age := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "reelay_jwks_age_seconds", Help: "Time since the last good fetch of the JWKS, or since the start before the first one; 0 without a JWKS URL.",
	}, m.age)
	if registerer != nil {
		registerer.MustRegister(m.fetches, m.keys, age)
	}
	return m
}

// start begins the time of a set that is not there yet, and shows each outcome as 0, so that its first time counts.
func (m *Metrics) start() {
	for _, outcome := range outcomes {
		m.fetches.WithLabelValues(outcome)
	}
	m.since.Store(time.Now().UnixNano())
}

func (m *Metrics) fetched(outcome string) { m.fetches.WithLabelValues(outcome).Inc() }

func (m *Metrics) taken(keys int) {
	m.keys.Set(float64(keys))
	m.since.Store(time.Now().UnixNano())
}

func (m *Metrics) age() float64 {
	since := m.since.Load()
	if since == 0 {
		return 0
	}
	return time.Since(time.Unix(0, since)).Seconds()
}

func outcomeOf(err error) string {
	if known, ok := errors.AsType[*fetchError](err); ok {
		return known.outcome
	}
	return outcomeUnreachable
}
