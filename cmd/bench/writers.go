package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
)

// variants are the triggers that writers are measured with; none is the limit.
var variants = []struct{ name, setup, teardown string }{
	{"no trigger", "", ""},
	{
		"outbox row alone", `
		CREATE TABLE plain_outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner text, subject text, status text);
		CREATE FUNCTION plain() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
			INSERT INTO plain_outbox (owner, subject, status) VALUES (NEW.user_id, NEW.id, NEW.processing_status); RETURN NULL; END$$;
		CREATE TRIGGER plain AFTER UPDATE ON videos FOR EACH ROW WHEN (OLD.processing_status IS DISTINCT FROM NEW.processing_status) EXECUTE FUNCTION plain()`,
		"DROP TRIGGER plain ON videos; DROP FUNCTION plain(); DROP TABLE plain_outbox",
	},
	{
		"plain pg_notify", `
		CREATE FUNCTION notify() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_notify('upload_status', NEW.id || ',' || NEW.processing_status); RETURN NULL; END$$;
		CREATE TRIGGER notify AFTER UPDATE ON videos FOR EACH ROW EXECUTE FUNCTION notify()`,
		"DROP TRIGGER notify ON videos; DROP FUNCTION notify()",
	},
	{"Reelay", "SELECT reelay.watch('videos')", "SELECT reelay.unwatch('videos')"},
}

// writers measures single-row updates a second by pgbench, with each variant, in turns.
func writers(ctx context.Context, o options) error {
	s, err := start(ctx, o, 1)
	if err != nil {
		return err
	}
	defer func() { _ = s.stop(ctx) }()
	script := filepath.Join(os.TempDir(), fmt.Sprintf("reelay-bench-%d.sql", os.Getpid()))
	if err := os.WriteFile(script, []byte(`\set n random(0, 9999)
UPDATE videos SET processing_status = CASE processing_status WHEN 'ready' THEN 'processing' ELSE 'ready' END WHERE id = 'v' || :n;
`), 0o600); err != nil {
		return err
	}
	defer func() { _ = os.Remove(script) }()
	table := tabwriter.NewWriter(o.out, 0, 0, 3, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "clients\tno trigger/s\toutbox row alone\tplain pg_notify\tReelay\tReelay / outbox row\t")
	for _, clients := range []int{1, 8, 32, 64} {
		shares := make([][]float64, len(variants))
		var toOutbox, limits []float64
		for range o.rounds {
			rates := make([]float64, len(variants))
			for i, v := range variants {
				if rates[i], err = s.rate(ctx, o, v.setup, v.teardown, script, clients); err != nil {
					return fmt.Errorf("%s, %d clients: %w", v.name, clients, err)
				}
				shares[i] = append(shares[i], rates[i]/rates[0])
			}
			limits = append(limits, rates[0])
			toOutbox = append(toOutbox, rates[3]/rates[1])
		}
		_, _ = fmt.Fprintf(table, "%d\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t\n", clients, quantile(limits, 0.5),
			quantile(shares[1], 0.5), quantile(shares[2], 0.5), quantile(shares[3], 0.5), quantile(toOutbox, 0.5))
	}
	return table.Flush()
}

func (s *stack) rate(ctx context.Context, o options, setup, teardown, script string, clients int) (float64, error) {
	if _, err := s.db.ExecContext(ctx, setup+";CHECKPOINT"); err != nil {
		return 0, err
	}
	//nolint:gosec // G204: the program is that of the Postgres we started
	command := exec.CommandContext(ctx, s.postgres.Bin("pgbench"), "-n", "-M", "prepared", "-f", script, "-j", "2",
		"-c", strconv.Itoa(clients), "-T", strconv.Itoa(max(1, int(o.seconds.Seconds()))), s.url())
	output, err := command.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w: %s", err, output)
	}
	if _, err := s.db.ExecContext(ctx, teardown); err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(output)) {
		var rate float64
		if n, _ := fmt.Sscanf(line, "tps = %g", &rate); n == 1 {
			return rate, nil
		}
	}
	return 0, fmt.Errorf("pgbench says no rate: %s", output)
}
