package pg

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reelay/reelay/hub"
)

// Metrics is what a Relay and a Log tell about themselves. The zero value does not work; see NewMetrics.
type Metrics struct {
	leader        prometheus.Gauge
	endings       *prometheus.CounterVec
	events        prometheus.Counter
	delay         prometheus.Histogram
	publish       prometheus.Histogram
	publishErrors prometheus.Counter
	reads         *prometheus.CounterVec
	batched       prometheus.Histogram
	revocations   prometheus.Gauge
	watchProblems prometheus.Gauge
	lookedAt      atomic.Int64 // when revocations were last read, in microseconds since 1970; 0 before the first time
}

// NewMetrics makes the metrics and registers them, unless registerer is nil.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	m := &Metrics{
		leader: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "reelay_leader", Help: "1 on the replica that leads, 0 elsewhere.",
		}),
		endings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reelay_leader_attempts_ended_total", Help: "Terms as leader and tries for it that ended, by what ended them.",
		}, []string{"reason"}),
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "reelay_relay_events_total", Help: "Events that this replica, as leader, gave a position to.",
		}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "reelay_relay_delay_seconds", Help: "Time from the change to its position, by Postgres's and this host's clocks.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		publish: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "reelay_relay_publish_seconds", Help: "Time one batch took to be published.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 13),
		}),
		publishErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "reelay_relay_publish_errors_total", Help: "Batches the bus refused. Replicas read them from the log.",
		}),
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reelay_log_queries_total", Help: "Queries of the log, by kind and result: ok, or what kept Postgres from answering.",
		}, []string{"kind", "result"}),
		batched: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "reelay_log_batch_size", Help: "Requests answered by one query of the log.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		revocations: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "reelay_revocations", Help: "Revocations of users and tokens that this replica holds in force.",
		}),
		watchProblems: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "reelay_watch_problems", Help: "On the leader, changes of watched tables that reelay.watch was not told of; reelay.watch_problems() names them.",
		}),
	}
	age := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "reelay_revocations_age_seconds", Help: "Time since this replica last read what is revoked; -1 before the first time. It stays below a second.",
	}, func() float64 {
		at := m.lookedAt.Load()
		if at == 0 {
			return -1
		}
		return time.Since(time.UnixMicro(at)).Seconds()
	})
	if registerer != nil {
		registerer.MustRegister(m.leader, m.endings, m.events, m.delay, m.publish, m.publishErrors, m.reads, m.batched, m.revocations, age, m.watchProblems)
	}
	return m
}

func (m *Metrics) numbered(events []*hub.Event) {
	m.events.Add(float64(len(events)))
	now := time.Now()
	for _, event := range events {
		m.delay.Observe(max(0, now.Sub(event.Time).Seconds()))
	}
}

func (m *Metrics) published(events int, took time.Duration, err error) {
	if err != nil {
		m.publishErrors.Inc()
	}
	if events > 0 {
		m.publish.Observe(took.Seconds())
	}
}

func (m *Metrics) lookedForRevocations(err error) {
	if err == nil {
		m.lookedAt.Store(time.Now().UnixMicro())
	}
	m.queried("revocations", 1, err)
}

func (m *Metrics) queried(kind string, requests int, err error) {
	result := "ok"
	if err != nil {
		result = Reason(err)
	}
	m.reads.WithLabelValues(kind, result).Inc()
	m.batched.Observe(float64(requests))
}
