package pg_test

import (
	"strings"
	"testing"
)

func TestEmit_IsAnEventOfItsTransaction(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	s.exec(`
		BEGIN;
		SELECT reelay.emit('alice', 'v1', 'video.progress', '{"percent": 40}');
		INSERT INTO videos VALUES ('v1', 'alice');
		SELECT reelay.emit(type => 'comment.posted.now', owner => 'bob', subject => 'c1');
		SELECT reelay.emit('alice', 'v1', 'video.progress', 'null'), reelay.emit('alice', 'v1', 'video.progress', NULL);
		COMMIT`)
	s.captures(
		`alice v1 video.progress {"percent": 40}`, `alice v1 video.created {"processing_status": "pending"}`,
		`bob c1 comment.posted.now`, `alice v1 video.progress null`, `alice v1 video.progress`,
	)
	if s.try(`BEGIN READ ONLY; SELECT reelay.emit('alice', 'v1', 'video.progress')`) == nil {
		t.Error("a read-only transaction has emitted")
	}
	s.exec("ROLLBACK")
}

func TestEmit_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := open(t)
	var got strings.Builder
	for _, sql := range []string{
		`SELECT reelay.emit(NULL, 'v1', 'video.progress')`,
		`SELECT reelay.emit('', 'v1', 'video.progress')`,
		`SELECT reelay.emit(repeat('é', 128) || 'x', 'v1', 'video.progress')`,
		`SELECT reelay.emit('alice', NULL, 'video.progress')`,
		`SELECT reelay.emit('alice', '', 'video.progress')`,
		`SELECT reelay.emit('alice', repeat('x', 1025), 'video.progress')`,
		`SELECT reelay.emit('alice', 'v1', NULL)`,
		`SELECT reelay.emit('alice', 'v1', '')`,
		`SELECT reelay.emit('alice', 'v1', 'video')`,
		`SELECT reelay.emit('alice', 'v1', 'Video.progress')`,
		`SELECT reelay.emit('alice', 'v1', 'video.')`,
		`SELECT reelay.emit('alice', 'v1', '.progress')`,
		`SELECT reelay.emit('alice', 'v1', 'video..progress')`,
		`SELECT reelay.emit('alice', 'v1', E'video.progress\n')`,
		`SELECT reelay.emit('alice', 'v1', E'x\nvideo.progress')`,
		`SELECT reelay.emit('alice', 'v1', 'video.progress it''s')`,
		`SELECT reelay.emit('alice', 'v1', 'reelay.reset')`,
		`SELECT reelay.emit('alice', 'v1', 'video.' || repeat('x', 123))`,
		`SELECT reelay.emit('alice', 'v1', 'video.progress', to_jsonb(repeat('x', 1048575)))`,
	} {
		got.WriteString(sql + "\n" + s.refused(sql) + "\n\n")
	}
	golden(t, "emit_errors.golden", got.String())
	s.captures()
	for _, sql := range []string{
		`SELECT reelay.emit(repeat('é', 128), repeat('x', 1024), 'video.' || repeat('x', 122), to_jsonb(repeat('x', 1048574)))`,
		`SELECT reelay.emit(E'\u0001\r\n*', E'\u0001', 'a.b_1.2', '[1]')`,
	} {
		s.exec(sql)
	}
}

// A column that was compressed is small where it lies, and large on the wire.
func TestEmit_MeasuresDataAsItIsSent(t *testing.T) {
	t.Parallel()
	s := open(t, `CREATE TABLE documents (id int, body jsonb); INSERT INTO documents VALUES (1, to_jsonb(repeat('x', 2000000)))`)
	if size := one[int](s, `SELECT pg_column_size(body) FROM documents`); size > 100_000 {
		t.Fatalf("the column has %d bytes: the test needs one that is compressed", size)
	}
	if got := s.refused(`SELECT reelay.emit('alice', 'v1', 'video.progress', body) FROM documents`); !strings.HasPrefix(got, "54000 reelay.emit: data has 2000002 bytes") {
		t.Errorf("got %s", got)
	}
}
