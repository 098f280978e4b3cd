package redisbus

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the bus does. No label comes from outside this package, let alone an owner.
type metrics struct {
	up            prometheus.Gauge
	connections   prometheus.Counter
	outages       prometheus.Counter
	events        prometheus.Counter
	marks         prometheus.Counter
	rejected      map[rejection]prometheus.Counter
	published     prometheus.Counter
	unpublishable prometheus.Counter
	publishErrors prometheus.Counter
	publishTime   prometheus.Histogram
}

// newMetrics makes the metrics and registers them, unless registerer is nil. Subscriptions counts owners.
func newMetrics(registerer prometheus.Registerer, subscriptions func() float64) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	received := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "reelay_bus_messages_received_total", Help: "Messages received from Redis and accepted, by kind.",
	}, []string{"kind"})
	rejected := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "reelay_bus_messages_rejected_total",
		Help: "Messages received from Redis and dropped: not signed with our key, damaged, of another version, or an old mark. Should stay 0.",
	}, []string{"reason"})
	m := &metrics{
		up: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "reelay_bus_up", Help: "1 while events arrive through Redis, 0 while they are read from the log.",
		}),
		connections: counter("reelay_bus_connections_total",
			"Connections made to Redis to receive. Each after the first is a reconnect."),
		outages: counter("reelay_bus_outages_total",
			"How often the bus went down, or was not up soon after the start."),
		events:   received.WithLabelValues("event"),
		marks:    received.WithLabelValues("mark"),
		rejected: make(map[rejection]prometheus.Counter, len(rejections)),
		published: counter("reelay_bus_events_published_total",
			"Events that Redis confirmed. Some may be of a batch that failed later."),
		unpublishable: counter("reelay_bus_events_unpublishable_total",
			"Events that no message can carry: replicas read them from the log. Should stay 0."),
		publishErrors: counter("reelay_bus_publish_errors_total", "Batches that were not published, or not wholly."),
		publishTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "reelay_bus_publish_seconds", Help: "Time to publish a batch, failures included.",
			Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
		}),
	}
	for _, reason := range rejections {
		m.rejected[reason] = rejected.WithLabelValues(string(reason))
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.up, m.connections, m.outages, received, rejected, m.published, m.unpublishable, m.publishErrors, m.publishTime,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "reelay_bus_subscriptions", Help: "Owners whose events this replica listens to.",
		}, subscriptions),
	} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register the bus's metrics: %w", err)
		}
	}
	return m, nil
}
