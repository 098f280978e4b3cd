package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// variant is a trigger that writers are measured with.
type variant struct{ key, name, setup, teardown string }

// variants begins with the limit. What is compared beyond it, the writers' table names by place.
var variants = []variant{
	{"none", "no trigger", "", ""},
	{
		"notify", "plain pg_notify", `
		CREATE FUNCTION notify() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_notify('upload_status', NEW.id || ',' || NEW.processing_status); RETURN NULL; END$$;
		CREATE TRIGGER notify AFTER UPDATE ON videos FOR EACH ROW EXECUTE FUNCTION notify()`,
		"DROP TRIGGER notify ON videos; DROP FUNCTION notify()",
	},
	{
		"outbox", "outbox row alone", `
		CREATE TABLE plain_outbox (LIKE reelay.outbox INCLUDING ALL);
		CREATE FUNCTION plain() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
			INSERT INTO plain_outbox (owner, subject, type, data) VALUES (NEW.user_id, NEW.id, 'video.updated', jsonb_build_object(
				'processing_status', NEW.processing_status, 'previous', jsonb_build_object('processing_status', OLD.processing_status)));
			RETURN NULL; END$$;
		CREATE TRIGGER plain AFTER UPDATE ON videos FOR EACH ROW WHEN (OLD.processing_status IS DISTINCT FROM NEW.processing_status) EXECUTE FUNCTION plain()`,
		"DROP TRIGGER plain ON videos; DROP FUNCTION plain(); DROP TABLE plain_outbox",
	},
	{
		// Reelay's own, but it writes to where no leader looks, and takes the leader to be awake.
		"trigger", "Reelay's trigger alone", `
		CREATE TABLE plain_outbox (LIKE reelay.outbox INCLUDING ALL);
		CREATE SEQUENCE plain_awake;
		SELECT nextval('plain_awake'), reelay.watch('videos');
		DO $$BEGIN
			EXECUTE (SELECT replace(replace(pg_get_functiondef(tgfoid), 'reelay.outbox', 'public.plain_outbox'), 'reelay.awake', 'public.plain_awake')
				FROM pg_trigger WHERE tgrelid = 'videos'::regclass AND tgname = '00_reelay_update');
		END$$`,
		"SELECT reelay.unwatch('videos'); DROP TABLE plain_outbox; DROP SEQUENCE plain_awake",
	},
	{"reelay", "Reelay", "SELECT reelay.watch('videos')", "SELECT reelay.unwatch('videos')"},
}

const (
	variantOutbox = 2
	variantReelay = 4
)

// situation is how many write, and to what.
type situation struct {
	clients int
	slow    bool // a flush of the log takes slowFlush longer
}

// slowFlush is added to a flush, in microseconds: then it takes about as long as on a volume that is across a network.
const slowFlush = 1400

var situations = []situation{{clients: 1}, {clients: 8}, {clients: 32}, {clients: 64}, {8, true}, {64, true}}

func (s situation) flush() string {
	if s.slow {
		return fmt.Sprintf("+ %.1f ms", float64(slowFlush)/1000)
	}
	return "as it is"
}

func (s situation) String() string {
	if s.slow {
		return strconv.Itoa(s.clients) + " clients, slow flush"
	}
	return strconv.Itoa(s.clients) + " clients"
}

// prepare sets how long a flush takes. Postgres waits for so long before each, whoever else is about to commit.
func (s situation) prepare(ctx context.Context, on *stack) error {
	delay := 0
	if s.slow {
		delay = slowFlush
	}
	for _, statement := range []string{
		"ALTER SYSTEM SET commit_siblings = 0", fmt.Sprintf("ALTER SYSTEM SET commit_delay = %d", delay), "SELECT pg_reload_conf()",
	} {
		if _, err := on.db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("set how long a flush takes: %w", err)
		}
	}
	return nil
}

// writers measures single-row updates a second with each variant. A gateway leads all the time, and nobody is connected:
// what delivery costs, other tables say.
func writers(ctx context.Context, o options) (*table, error) {
	s, err := start(ctx, o, 1)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.stop(ctx) }()
	w, err := newUpdater(s)
	if err != nil {
		return nil, err
	}
	defer w.close()
	t := &table{
		Name: "writers", Title: "updates of one row each a second, as a share of the same without a trigger",
		Columns: append([]column{
			{"clients", "clients", 0},
			{"flush", "flush", 0},
			{"none", "no trigger/s", 0},
			{"none_share", "no trigger", 2},
			{"notify_share", "plain pg_notify", 2},
			{"outbox_share", "outbox row alone", 2},
			{"trigger_share", "Reelay's trigger alone", 2},
			{"reelay_share", "Reelay", 2},
			{"reelay_outbox", "Reelay / outbox row", 2},
		}, countColumns...),
		Notes: []string{
			w.note(),
			"The outbox row alone is the same that Reelay's trigger makes, by one that does nothing else.",
			"Clients, Postgres and the leader share the CPUs of this machine. The leader moves what Reelay's trigger writes.",
			"What a trigger alone writes nobody moves: from there to Reelay is what the leader takes of the CPU.",
			"A slower flush is made by commit_delay: what a volume across a network takes.",
		},
	}
	bars := chart{title: "Updates a second with a trigger, as a share of those without", unit: "share", series: make([]series, len(variants))}
	for _, now := range situations {
		if err := now.prepare(ctx, s); err != nil {
			return nil, err
		}
		shares := make([]quantity, len(variants))
		var limit, toOutbox quantity
		lost, twice := 0, 0
		for round := range o.rounds {
			rates := make([]float64, len(variants))
			for i := range variants {
				i = (i + round) % len(variants) // nobody is always first, on clean tables
				o.progress.stepf("round %d of %d, %s, %s", round+1, o.rounds, now, variants[i].name)
				result, err := w.measure(ctx, o, variants[i], now.clients)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", variants[i].name, now, err)
				}
				rates[i] = result.rate
				lost, twice = lost+result.lost, twice+result.twice
			}
			for i := range variants {
				shares[i] = append(shares[i], rates[i]/rates[0])
			}
			limit = append(limit, rates[0])
			toOutbox = append(toOutbox, rates[variantReelay]/rates[variantOutbox])
		}
		r := row{"clients": now.clients, "flush": now.flush(), "none": limit.median(), "reelay_outbox": toOutbox.median(), "lost": lost, "twice": twice}
		bars.labels = append(bars.labels, now.String())
		for i, v := range variants {
			share := shares[i].median()
			r[v.key+"_share"] = share
			bars.series[i].name = v.name
			bars.series[i].values = append(bars.series[i].values, share)
		}
		t.add(r)
	}
	t.Charts = []chart{bars}
	return t, nil
}

// toggleStatus changes a watched column whatever it holds.
const toggleStatus = "UPDATE videos SET processing_status = CASE processing_status WHEN 'ready' THEN 'processing' ELSE 'ready' END WHERE id = "

// updated is what a number of clients did in a while.
type updated struct {
	rate        float64 // transactions a second
	lost, twice int
}

// updater makes clients update, by pgbench where there is one.
type updater struct {
	stack   *stack
	pgbench *pgbench // nil where there is none
	ledger  *ledger
}

func newUpdater(s *stack) (*updater, error) {
	bench, err := newPgbench(s)
	return &updater{stack: s, pgbench: bench, ledger: newLedger(users, perUser)}, err
}

func (w *updater) close() {
	if w.pgbench != nil {
		w.pgbench.close()
	}
}

func (w *updater) note() string {
	if w.pgbench == nil {
		return "Written by clients of this program's: there is no pgbench beside this Postgres. They take more of the CPU than it does."
	}
	return "Written by pgbench, prepared statements. Lost and twice: transactions without an event in Reelay's log, and events that are in it again."
}

// measure updates with a variant's trigger in place.
func (w *updater) measure(ctx context.Context, o options, v variant, clients int) (u updated, err error) {
	s := w.stack
	// Vacuum and checkpoint begin anew, so that nobody pays for what another left behind.
	for _, statement := range []string{v.setup, "VACUUM videos", "CHECKPOINT"} {
		if _, err := s.db.ExecContext(ctx, statement); err != nil {
			return u, err
		}
	}
	var before int64
	if err := s.db.QueryRowContext(ctx, "SELECT last_position FROM reelay.state").Scan(&before); err != nil {
		return u, err
	}
	transactions, rate, err := w.update(ctx, o, clients)
	if err != nil {
		return u, err
	}
	u.rate = rate
	if v.key == "reelay" {
		if u.lost, u.twice, err = s.audit(ctx, before, transactions); err != nil {
			return u, err
		}
	}
	_, err = s.db.ExecContext(ctx, v.teardown)
	return u, err
}

func (w *updater) update(ctx context.Context, o options, clients int) (transactions int64, rate float64, err error) {
	if w.pgbench != nil {
		return w.pgbench.run(ctx, clients, o.seconds)
	}
	l := load{url: w.stack.url(), ledger: w.ledger, writers: clients, pick: oneRow(w.ledger), statement: toggleStatus}
	defer l.close(ctx)
	uncounted, _, err := l.run(ctx, time.Second) // as with pgbench
	if err != nil {
		return 0, 0, err
	}
	counted, took, err := l.run(ctx, o.seconds)
	return uncounted + counted, float64(counted) / took.Seconds(), err
}

// audit waits until the leader has taken all there is, and counts what the log got after a position.
func (s *stack) audit(ctx context.Context, after, transactions int64) (lost, twice int, err error) {
	var waiting, events, different int64
	var failed error
	err = until(ctx, "the leader has numbered what was committed", func() bool {
		failed = s.db.QueryRowContext(ctx, "SELECT count(*) FROM reelay.outbox").Scan(&waiting)
		return failed != nil || waiting == 0
	})
	if err := errors.Join(err, failed); err != nil {
		return 0, 0, err
	}
	err = s.db.QueryRowContext(ctx, "SELECT count(*), count(DISTINCT outbox_id) FROM reelay.log WHERE position > $1", after).Scan(&events, &different)
	return int(max(0, transactions-different)), int(events - different), err
}
