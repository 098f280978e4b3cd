package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// workers is how many videos are in the making at the same time.
	workers = 3
	// shelf is how many videos a user keeps; beyond that the oldest finished one goes.
	shelf = 5
	// uploadEvery is the mean time between two uploads of the same user.
	uploadEvery = 6 * time.Second
	// pendingFor is how long a video waits at least, so that people can see it wait.
	pendingFor = 1200 * time.Millisecond
	// shortestWork and longestWork bound how long the pretended work takes.
	shortestWork = 2500 * time.Millisecond
	longestWork  = 6 * time.Second
	// failureShare is how many videos come to nothing.
	failureShare = 0.2
)

// transcoder pretends to be what really makes videos: something that polls a table and writes a status. Like the
// application it is plain SQL and knows nothing of Reelay.
type transcoder struct {
	db  *sql.DB
	log *slog.Logger
	// work says how long the next video takes.
	work func() time.Duration
}

func newTranscoder(db *sql.DB, log io.Writer) *transcoder {
	return &transcoder{
		db:   db,
		log:  slog.New(slog.NewTextHandler(log, nil)),
		work: func() time.Duration { return between(shortestWork, longestWork) },
	}
}

// run works until ctx ends, and returns when everything has come to rest.
func (t *transcoder) run(ctx context.Context) {
	var all sync.WaitGroup
	for range workers {
		all.Go(func() { t.repeat(ctx, 300*time.Millisecond, t.transcodeNext) })
	}
	for _, user := range users {
		all.Go(func() {
			t.repeat(ctx, uploadEvery, func(ctx context.Context) error { return t.turnOver(ctx, user) })
		})
	}
	all.Wait()
}

// repeat does something again and again, about every so often. What goes wrong is noted and tried again: a database
// that restarts is no reason to stop working.
func (t *transcoder) repeat(ctx context.Context, every time.Duration, do func(context.Context) error) {
	for pause(ctx, between(every/2, every*3/2)) {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			t.log.WarnContext(ctx, "went wrong", "err", err)
		}
	}
}

// transcodeNext takes the video that has waited longest, if there is one, through its work.
func (t *transcoder) transcodeNext(ctx context.Context) error {
	var id string
	err := t.db.QueryRowContext(ctx, `
		UPDATE videos SET processing_status = 'processing', updated_at = now()
		WHERE id = (
			SELECT id FROM videos WHERE processing_status = 'pending' AND created_at < now() - $1 * interval '1 second'
			ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
		RETURNING id`, pendingFor.Seconds()).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("take a video: %w", err)
	}
	t.log.InfoContext(ctx, "processing", "video", id)
	if !pause(ctx, t.work()) {
		return nil
	}
	status, path := "ready", sql.NullString{String: "processed/" + id + ".mp4", Valid: true}
	if rand.Float64() < failureShare {
		status, path = "failed", sql.NullString{}
	}
	// Somebody may have failed, deleted or handed it over in the meantime; only the first two make it ours no more.
	_, err = t.db.ExecContext(ctx, `
		UPDATE videos SET processing_status = $2, processed_file_path = $3, updated_at = now()
		WHERE id = $1 AND processing_status = 'processing'`, id, status, path)
	if err != nil {
		return fmt.Errorf("finish video %s: %w", id, err)
	}
	t.log.InfoContext(ctx, "finished", "video", id, "status", status)
	return nil
}

// turnOver uploads a video for user and clears away what no longer fits the shelf.
func (t *transcoder) turnOver(ctx context.Context, user string) error {
	id, err := upload(ctx, t.db, user)
	if err != nil {
		return err
	}
	t.log.InfoContext(ctx, "uploaded", "video", id, "user", user)
	_, err = t.db.ExecContext(ctx, `
		DELETE FROM videos WHERE id IN (
			SELECT id FROM (
				SELECT id, processing_status, row_number() OVER (ORDER BY created_at DESC) AS place
				FROM videos WHERE user_id = $1) AS ranked
			WHERE place > $2 AND processing_status IN ('ready', 'failed'))`, user, shelf)
	if err != nil {
		return fmt.Errorf("clear away old videos of %s: %w", user, err)
	}
	return nil
}

// pause waits, and says whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// between returns some time from low to high.
func between(low, high time.Duration) time.Duration {
	return low + rand.N(high-low+1)
}
