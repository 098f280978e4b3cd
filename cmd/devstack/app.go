package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/reelay/reelay/api/web"
)

// maxBody is how much of a request is read.
const maxBody = 4 << 10

// contentPolicy allows the page what it brings along, and a WebSocket to where it came from.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// app is the example application: a page, a pretend sign-in, and buttons that are plain SQL. Nothing in it calls Reelay
// or knows of it, which is the point: the page learns what happened from the database.
type app struct {
	*server
	db   *sql.DB
	mint func(user string) (token string, err error)
}

// startApp serves the application on a free port of 127.0.0.1.
func startApp(db *sql.DB, mint func(user string) (string, error)) (*app, error) {
	listener, err := listen(context.Background(), 0)
	if err != nil {
		return nil, err
	}
	a := &app{db: db, mint: mint}
	a.server = serveHTTP(listener, a.handler())
	return a, nil
}

func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(web.FS))
	mux.HandleFunc("GET /demo/session", a.session)
	mux.HandleFunc("POST /demo/videos", a.upload)
	mux.HandleFunc("POST /demo/videos/{id}/fail", a.fail)
	mux.HandleFunc("POST /demo/videos/{id}/handover", a.handOver)
	mux.HandleFunc("DELETE /demo/videos/{id}", a.delete)
	return ownOrigin(mux)
}

// ownOrigin keeps other sites out of the application. It hands out tokens without asking who is there, which is fine
// for a demo on 127.0.0.1 and for nothing else; but every page in the same browser can reach 127.0.0.1 too.
func ownOrigin(next http.Handler) http.Handler {
	// It looks at Sec-Fetch-Site, or at Origin where a browser sends none, for all methods that change something.
	guarded := http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", contentPolicy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		header.Set("Cache-Control", "no-store")
		if !isLoopback(r.Host) {
			// Another name for 127.0.0.1, under which a site would pass for the page's own origin (DNS rebinding).
			http.Error(w, "open this page as 127.0.0.1 or localhost", http.StatusMisdirectedRequest)
			return
		}
		site := r.Header.Get("Sec-Fetch-Site")
		if strings.HasPrefix(r.URL.Path, "/demo/") && !slices.Contains([]string{"", "none", "same-origin"}, site) {
			http.Error(w, "only the page itself may ask this", http.StatusForbidden)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

func isLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	return host == "127.0.0.1" || host == "localhost"
}

// session signs both users in: it answers with a token for each, as an application's own sign-in would.
func (a *app) session(w http.ResponseWriter, _ *http.Request) {
	type user struct {
		Name  string `json:"name"`
		Token string `json:"token"`
	}
	var answer struct {
		Users []user `json:"users"`
	}
	for _, name := range users {
		token, err := a.mint(name)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answer.Users = append(answer.Users, user{name, token})
	}
	reply(w, http.StatusOK, answer)
}

func (a *app) upload(w http.ResponseWriter, r *http.Request) {
	var request struct {
		User string `json:"user"`
	}
	if !read(w, r, &request) || !known(w, request.User) {
		return
	}
	id, err := upload(r.Context(), a.db, request.User)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	reply(w, http.StatusCreated, map[string]string{"id": id})
}

func (a *app) fail(w http.ResponseWriter, r *http.Request) {
	a.change(w, r, `UPDATE videos SET processing_status = 'failed', updated_at = now()
		WHERE id = $1 AND processing_status IN ('pending', 'processing')`)
}

func (a *app) handOver(w http.ResponseWriter, r *http.Request) {
	var request struct {
		To string `json:"to"`
	}
	if !read(w, r, &request) || !known(w, request.To) {
		return
	}
	a.change(w, r, `UPDATE videos SET user_id = $2, updated_at = now() WHERE id = $1`, request.To)
}

func (a *app) delete(w http.ResponseWriter, r *http.Request) {
	a.change(w, r, `DELETE FROM videos WHERE id = $1`)
}

// change runs one statement on the video that the path names.
func (a *app) change(w http.ResponseWriter, r *http.Request, statement string, more ...any) {
	result, err := a.db.ExecContext(r.Context(), statement, append([]any{r.PathValue("id")}, more...)...)
	var rows int64
	if err == nil {
		rows, err = result.RowsAffected()
	}
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case rows == 0:
		http.Error(w, "this video is gone, or past that", http.StatusConflict)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// upload inserts a new video, as an application does when a file has come in.
func upload(ctx context.Context, db *sql.DB, user string) (string, error) {
	id := newID(time.Now())
	_, err := db.ExecContext(ctx, `INSERT INTO videos (id, created_at, updated_at, raw_file_path, user_id)
		VALUES ($1, now(), now(), $2, $3)`, id, "raw/"+id+".mov", user)
	if err != nil {
		return "", fmt.Errorf("insert a video of %s: %w", user, err)
	}
	return id, nil
}

// newID returns a short id that sorts by time: the page shows the newest first without knowing when a video was made.
func newID(now time.Time) string {
	var raw [10]byte
	// Tenths of a second in 32 bits, which begin anew every 13 years, then noise.
	binary.BigEndian.PutUint32(raw[:], uint32(now.UnixMilli()/100))
	_, _ = rand.Read(raw[4:])
	alphabet := base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)
	return "vid_" + alphabet.EncodeToString(raw[:])[:10]
}

// read decodes the request's body, or answers that it could not.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(into)
	if err != nil {
		http.Error(w, "the body is not the JSON expected here", http.StatusBadRequest)
	}
	return err == nil
}

// known says whether this is one of the two users, or answers that it is not.
func known(w http.ResponseWriter, user string) bool {
	ok := slices.Contains(users, user)
	if !ok {
		http.Error(w, "there is no such user here", http.StatusUnprocessableEntity)
	}
	return ok
}

func reply(w http.ResponseWriter, status int, answer any) {
	content, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, errors.Join(err).Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(content) // a client that left needs no answer
}
