package hub

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics is what a Hub tells about itself. The zero value does not work; see NewMetrics.
type Metrics struct {
	sessions   prometheus.Gauge
	feeds      prometheus.Gauge
	busUp      prometheus.Gauge
	available  prometheus.Gauge
	position   prometheus.Gauge
	delivered  prometheus.Counter
	duplicates prometheus.Counter
	refused    *prometheus.CounterVec
	foreign    prometheus.Counter
	holes      prometheus.Counter
	catchUps   *prometheus.CounterVec
	repairs    prometheus.Counter
	resets     *prometheus.CounterVec
	logErrors  prometheus.Counter

	foreignTold sync.Once // the first event of another owner has been logged
}

// NewMetrics makes the metrics and registers them, unless registerer is nil.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	counters := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &Metrics{
		sessions:   gauge("reelay_sessions", "Sessions attached to this replica."),
		feeds:      gauge("reelay_feeds", "Owners this replica is subscribed for."),
		busUp:      gauge("reelay_hub_bus_up", "1 while events come by the bus, 0 while they are read from the log."),
		available:  gauge("reelay_hub_log_available", "1 while the log can be read, 0 while Postgres is away and clients have been told."),
		position:   gauge("reelay_hub_position", "Position up to which this replica is complete."),
		delivered:  counter("reelay_events_delivered_total", "Events handed to sessions."),
		duplicates: counter("reelay_hub_duplicates_total", "Events dropped because they were known."),
		refused:    counters("reelay_hub_refused_total", "Events and marks refused, by reason.", "reason"),
		foreign:    counter("reelay_hub_foreign_total", "Events of another owner that were kept from a session. Should stay 0."),
		holes:      counter("reelay_hub_holes_total", "Holes seen in an owner's sequence, filled from the log."),
		catchUps:   counters("reelay_hub_catch_ups_total", "Times this replica asked the log what it had missed, by cause.", "cause"),
		repairs:    counter("reelay_hub_repairs_total", "Feeds that only reconciliation found to be behind."),
		resets:     counters("reelay_resets_total", "Sessions whose cursor could not be honoured, by reason.", "reason"),
		logErrors:  counter("reelay_hub_log_errors_total", "Reads of the log that failed and are tried again."),
	}
	m.available.Set(1)
	if registerer != nil {
		registerer.MustRegister(m.sessions, m.feeds, m.busUp, m.available, m.position, m.delivered, m.duplicates, m.refused, m.foreign,
			m.holes, m.catchUps, m.repairs, m.resets, m.logErrors)
	}
	return m
}
