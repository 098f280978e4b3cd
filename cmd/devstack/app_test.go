package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/reelay/reelay/deploy/local"
)

// ask sends a request to the application as a browser would send it from the given place.
func ask(a *app, method, path, body string, header map[string]string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	request.Host = "127.0.0.1:8080"
	for name, value := range header {
		if name == "Host" {
			request.Host = value
			continue
		}
		request.Header.Set(name, value)
	}
	recorder := httptest.NewRecorder()
	a.handler().ServeHTTP(recorder, request)
	return recorder
}

func pretendMint(user string) (string, error) { return "token-of-" + user, nil }

func TestApp_AnswersItsOwnPageAlone(t *testing.T) {
	t.Parallel()
	a := &app{mint: pretendMint}
	tests := map[string]struct {
		method, path string
		header       map[string]string
		want         int
	}{
		"the page":                     {"GET", "/", nil, 200},
		"the page by name":             {"GET", "/", map[string]string{"Host": "localhost:8080"}, 200},
		"the page from a link":         {"GET", "/", map[string]string{"Sec-Fetch-Site": "cross-site"}, 200},
		"session of the page":          {"GET", "/demo/session", map[string]string{"Sec-Fetch-Site": "same-origin"}, 200},
		"session, typed in":            {"GET", "/demo/session", map[string]string{"Sec-Fetch-Site": "none"}, 200},
		"session, no browser":          {"GET", "/demo/session", nil, 200},
		"session of another site":      {"GET", "/demo/session", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"session of another port":      {"GET", "/demo/session", map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		"session under another name":   {"GET", "/demo/session", map[string]string{"Host": "evil.example:8080"}, 421},
		"page under another name":      {"GET", "/", map[string]string{"Host": "127.0.0.1.evil.example"}, 421},
		"action of another site":       {"DELETE", "/demo/videos/x", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"action of another origin":     {"POST", "/demo/videos", map[string]string{"Origin": "http://evil.example"}, 403},
		"action of an opaque origin":   {"POST", "/demo/videos", map[string]string{"Origin": "null"}, 403},
		"action of another local port": {"POST", "/demo/videos", map[string]string{"Origin": "http://127.0.0.1:9999"}, 403},
		"no such user":                 {"POST", "/demo/videos", map[string]string{"Origin": "http://127.0.0.1:8080"}, 422},
		"no such method":               {"PUT", "/demo/videos", nil, 405},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ask(a, test.method, test.path, `{"user":"mallory"}`, test.header)
			if got.Code != test.want {
				t.Errorf("status = %d, want %d: %s", got.Code, test.want, got.Body)
			}
			if policy := got.Header().Get("Content-Security-Policy"); policy != contentPolicy {
				t.Errorf("Content-Security-Policy = %q, want %q", policy, contentPolicy)
			}
			if strings.Contains(got.Body.String(), "token-of") && got.Code != 200 {
				t.Error("a refused request was answered with a token")
			}
		})
	}
}

func TestApp_SignsBothUsersIn(t *testing.T) {
	t.Parallel()
	got := ask(&app{mint: pretendMint}, "GET", "/demo/session", "", nil).Body.String()
	if want := `{"users":[{"name":"alice","token":"token-of-alice"},{"name":"bob","token":"token-of-bob"}]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestApp_PageBringsAlongAllItLoads(t *testing.T) {
	t.Parallel()
	a := &app{mint: pretendMint}
	page := ask(a, "GET", "/", "", nil).Body.String()
	for _, name := range []string{"style.css", "app.js"} {
		if !strings.Contains(page, name) {
			t.Errorf("the page does not load %s", name)
		}
	}
	for path, kind := range map[string]string{"/style.css": "text/css", "/app.js": "text/javascript", "/feed.js": "text/javascript"} {
		got := ask(a, "GET", path, "", nil)
		if got.Code != 200 || !strings.HasPrefix(got.Header().Get("Content-Type"), kind) {
			t.Errorf("%s: %d %s, want 200 %s", path, got.Code, got.Header().Get("Content-Type"), kind)
		}
	}
	// What the policy forbids must not be there: it would be dead.
	if found := regexp.MustCompile(`(?i)<script>|<style|\son\w+=|\sstyle=|https?://`).FindAllString(strings.ReplaceAll(page, "http://www.w3.org/2000/svg", ""), -1); found != nil {
		t.Errorf("the page has %q", found)
	}
}

// startDB starts a Postgres with the application's table.
func startDB(t *testing.T) *sql.DB {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Postgres")
	}
	postgres, err := local.StartPostgres(t.Context(), local.Options{Settings: local.FastSettings()})
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("pgx", postgres.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = db.Close()
		if err := postgres.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if _, err := db.ExecContext(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	return db
}

// video reads a row back as owner and status; both are empty when it is gone.
func video(t *testing.T, db *sql.DB, id string) (owner, status string) {
	t.Helper()
	err := db.QueryRowContext(t.Context(), `SELECT user_id, processing_status FROM videos WHERE id = $1`, id).Scan(&owner, &status)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		t.Fatal(err)
	}
	return owner, status
}

func TestApp_ButtonsArePlainSQL(t *testing.T) {
	t.Parallel()
	db := startDB(t)
	a := &app{db: db, mint: pretendMint}

	created := ask(a, "POST", "/demo/videos", `{"user":"alice"}`, nil)
	var answer struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(created.Body.Bytes(), &answer); err != nil || created.Code != http.StatusCreated {
		t.Fatalf("upload: %d %s", created.Code, created.Body)
	}
	path := "/demo/videos/" + answer.ID
	for _, step := range []struct {
		what, method, path, body string
		code                     int
		owner, status            string
	}{
		{"nothing yet", "POST", "/demo/videos/other/fail", "", 409, "alice", "pending"},
		{"to a stranger", "POST", path + "/handover", `{"to":"mallory"}`, 422, "alice", "pending"},
		{"not JSON", "POST", path + "/handover", `to=bob`, 400, "alice", "pending"},
		{"hand over", "POST", path + "/handover", `{"to":"bob"}`, 204, "bob", "pending"},
		{"fail", "POST", path + "/fail", "", 204, "bob", "failed"},
		{"fail again", "POST", path + "/fail", "", 409, "bob", "failed"},
		{"delete", "DELETE", path, "", 204, "", ""},
		{"delete again", "DELETE", path, "", 409, "", ""},
	} {
		got := ask(a, step.method, step.path, step.body, nil)
		owner, status := video(t, db, answer.ID)
		if got.Code != step.code || owner != step.owner || status != step.status {
			t.Errorf("%s: %d, row %q %q, want %d, row %q %q: %s",
				step.what, got.Code, owner, status, step.code, step.owner, step.status, got.Body)
		}
	}
}

func TestTranscoder_TakesTheOldestThroughAndKeepsTheShelfShort(t *testing.T) {
	t.Parallel()
	db := startDB(t)
	var log bytes.Buffer
	work := newTranscoder(db, &log)
	work.work = func() time.Duration { return 0 }

	_, err := db.ExecContext(t.Context(), `INSERT INTO videos (id, created_at, updated_at, raw_file_path, user_id)
		SELECT 'old' || n, now() - interval '1 hour' + n * interval '1 second', now(), 'raw', 'alice' FROM generate_series(1, 7) AS n`)
	if err != nil {
		t.Fatal(err)
	}
	if err := work.transcodeNext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, status := video(t, db, "old1"); status != "ready" && status != "failed" {
		t.Errorf("the oldest video is %q, want ready or failed; log: %s", status, log.String())
	}
	if _, status := video(t, db, "old2"); status != "pending" {
		t.Errorf("the next one is %q, want pending", status)
	}

	if err := work.turnOver(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM videos`).Scan(&left); err != nil {
		t.Fatal(err)
	}
	if left != 7 { // seven and the new one, less the finished one; what still waits is never cleared away
		t.Errorf("%d videos, want 7", left)
	}
}
