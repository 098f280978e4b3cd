package api

import (
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics is what a Server tells about itself. The zero value does not work; see NewMetrics.
type Metrics struct {
	connections prometheus.Gauge
	requests    *prometheus.CounterVec
	polls       prometheus.Gauge
	refused     *prometheus.CounterVec
	closes      *prometheus.CounterVec
	limited     *prometheus.CounterVec
	panics      prometheus.Counter
}

// NewMetrics makes the metrics and registers them, unless registerer is nil.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	m := &Metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "reelay_connections", Help: "WebSockets and event streams open on this replica.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reelay_requests_total", Help: "Requests to /events that were let in, by transport.",
		}, []string{"transport"}),
		polls: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "reelay_polls", Help: "Requests for a page that are being answered or wait for an event.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reelay_refused_total", Help: "Connections and tokens refused, by the code the client is told.",
		}, []string{"code"}),
		closes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reelay_closes_total", Help: "Connections that this replica closed, by the code the client is told.",
		}, []string{"code"}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reelay_limited_total", Help: "How often a limit of connections, rates or sizes was reached, by limit.",
		}, []string{"limit"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "reelay_panics_total", Help: "Panics caught in a handler. Each is a bug.",
		}),
	}
	for _, l := range allLimits {
		m.limited.WithLabelValues(string(l))
	}
	if registerer != nil {
		registerer.MustRegister(m.connections, m.requests, m.polls, m.refused, m.closes, m.limited, m.panics)
	}
	return m
}

func stack() string { return string(debug.Stack()) }
