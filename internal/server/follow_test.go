package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/live"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store/postgres"
)

// told is an event of a live stream, or a line of one as NDJSON.
type told struct {
	event string
	id    string
	lines []string
}

// tailer is a client of a live stream.
type tailer struct {
	t      *testing.T
	events chan told // those with data; closed when the stream ends
	ids    chan string
	err    error // of its end
	stop   context.CancelFunc
}

// follow opens a live stream, and returns when it has begun.
func (w *world) follow(t *testing.T, query string, headers ...string) *tailer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/v1/stream"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := w.client.Do(r) //nolint:bodyclose // the cleanup does
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	f := &tailer{t: t, events: make(chan told, 10_000), ids: make(chan string, 1000), stop: cancel}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(f.events)
		f.err = f.read(resp.Body)
	}()
	t.Cleanup(func() {
		cancel()
		_ = resp.Body.Close()
		<-ended
	})
	return f
}

func (f *tailer) read(body io.Reader) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	var e told
	for lines.Scan() {
		switch name, value, _ := strings.Cut(lines.Text(), ": "); {
		case strings.HasPrefix(lines.Text(), "{"):
			f.events <- told{lines: []string{lines.Text()}}
		case name == "event":
			e.event = value
		case name == "id":
			e.id = value
		case name == "data":
			e.lines = append(e.lines, value)
		case lines.Text() == "" && e.lines != nil:
			f.events <- e
			e = told{}
		case lines.Text() == "" && e.id != "":
			select {
			case f.ids <- e.id:
			default:
			}
			e = told{}
		}
	}
	return lines.Err()
}

// next is the next event.
func (f *tailer) next() told {
	f.t.Helper()
	select {
	case e, ok := <-f.events:
		if !ok {
			f.t.Fatalf("the stream ends: %v", f.err)
		}
		return e
	case <-time.After(30 * time.Second):
		f.t.Fatal("nothing is told")
	}
	return told{}
}

// closes are the next n records, as symbol, minute and close.
func (f *tailer) closes(n int) (list []string) {
	f.t.Helper()
	for len(list) < n {
		for _, line := range f.next().lines {
			list = append(list, short(f.t, line))
		}
	}
	return list
}

func short(t *testing.T, line string) string {
	t.Helper()
	var r struct {
		Symbol, ID string
		TS         time.Time
		Close      float64
	}
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	if r.ID != "" {
		return r.ID
	}
	return fmt.Sprint(r.Symbol, r.TS.Minute()-30, "=", r.Close)
}

// over waits for the end of the stream, after which nothing more is told.
func (f *tailer) over() {
	f.t.Helper()
	select {
	case e, ok := <-f.events:
		if ok {
			f.t.Errorf("it is told %+v", e)
		}
	case <-time.After(30 * time.Second):
		f.t.Fatal("the stream does not end")
	}
	if f.err != nil {
		f.t.Error(f.err)
	}
}

// TestFollow tells what was committed, once, of a series in order, to who wants it: by kind
// and symbol, of its tenant.
func TestFollow(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		w := serve(t, dsn, server.Config{})
		if _, err := w.store.CreateTenant(t.Context(), "other"); err != nil {
			t.Fatal(err)
		}
		all := w.follow(t, "")
		someBars := w.follow(t, "?kind=bars&symbol=a,c")
		minutes := w.follow(t, "?timeframe=1m&vendor=V&symbol=B") // bars alone have timeframes
		lines := w.follow(t, "?kind=bars", "Accept", "application/x-ndjson")
		other := w.follow(t, "", "Mds-Tenant", "other")

		const news = `{"vendor":"v","id":"n1","published_at":"2026-01-02T14:30:00Z","title":"t","symbols":["A"]}`
		if a := w.post(t, "/v1/news", news); a.status != http.StatusOK {
			t.Fatal(a.body)
		}
		if e := all.next(); e.event != "news" || len(e.lines) != 1 || short(t, e.lines[0]) != "n1" || !strings.HasSuffix(e.id, "-0-0-0-1") {
			t.Errorf("%+v", e)
		}
		// A row that is none, one that another replaces, and one late.
		if a := w.post(t, "/v1/bars", bar("a", 0, 1)+bar("A", 1, 2)+`{"vendor":"v"}`+"\n"+bar("B", 0, 3)+bar("A", 0, 4)); a.status != http.StatusOK {
			t.Fatal(a.body)
		}
		if got := all.closes(3); !slices.Equal(sorted(got), []string{"A0=4", "A1=2", "B0=3"}) {
			t.Errorf("all: %q", got)
		}
		if a := w.post(t, "/v1/bars?late=2000-01-01", bar("A", 0, 5)); a.status != http.StatusOK {
			t.Fatal(a.body)
		}
		for n := range 20 {
			w.post(t, "/v1/bars", bar("A", 2, float64(n))+bar("C", n%2, float64(n)))
		}
		for name, tt := range map[string]struct {
			f    *tailer
			want map[string][]string // by symbol
		}{
			"all":     {all, map[string][]string{"A": wantA()[2:], "C": wantC()}},
			"some":    {someBars, map[string][]string{"A": wantA(), "C": wantC()}},
			"ndjson":  {lines, map[string][]string{"A": wantA(), "B": {"B0=3"}, "C": wantC()}},
			"minutes": {minutes, map[string][]string{"B": {"B0=3"}}},
		} {
			n := 0
			for _, list := range tt.want {
				n += len(list)
			}
			bySymbol := make(map[string][]string)
			for _, c := range tt.f.closes(n) {
				bySymbol[c[:1]] = append(bySymbol[c[:1]], c)
			}
			for symbol, want := range tt.want {
				if symbol == "A" && len(want) == 22 {
					slices.Sort(bySymbol[symbol][:2]) // of one batch
				}
				if !slices.Equal(bySymbol[symbol], want) {
					t.Errorf("%s: %s is told %q, want %q", name, symbol, bySymbol[symbol], want)
				}
			}
		}
		w.post(t, "/v1/bars", bar("A", 9, 9), "Mds-Tenant", "other")
		if e := other.next(); e.event != "bars" || len(e.lines) != 1 || short(t, e.lines[0]) != "A9=9" {
			t.Errorf("the other tenant is told %+v", e)
		}
		w.server.Drain()
		for _, f := range []*tailer{all, someBars, minutes, lines, other} {
			f.over()
		}
		w.get(t, "/v1/stream").problem(t, http.StatusServiceUnavailable, "stopping", "the server is being stopped")
	})
}

func wantA() []string {
	list := []string{"A0=4", "A1=2"}
	for n := range 20 {
		list = append(list, fmt.Sprint("A2=", n))
	}
	return list
}

func wantC() (list []string) {
	for n := range 20 {
		list = append(list, fmt.Sprint("C", n%2, "=", n))
	}
	return list
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

// TestFollowPoison tells of a batch of which the store refuses a row the others.
func TestFollowPoison(t *testing.T) {
	w := copying(t)
	w.post(t, "/v1/bars", bar("A", 1, 1))
	f := w.follow(t, "?kind=bars")
	a := w.post(t, "/v1/bars", bar("A", 0, 0)+bar("A", 1, 11)+bar("A", 2, 2)+bar("A", 3, 3))
	if !strings.Contains(a.body, `"committed":3,"dead_lettered":0,"dropped":1`) ||
		!strings.Contains(a.body, `"refused":[{"record":{"vendor":"v","symbol":"A","timeframe":"1m","ts":"2026-01-02T14:31:00Z","open":null,"high":null,"low":null,"close":11,`) ||
		!strings.Contains(a.body, "a row is there already") {
		t.Fatal(a.body)
	}
	if a := w.post(t, "/v1/bars?max_errors=1", bar("A", 1, 11)+bar("A", 3, 3)); !strings.Contains(a.body, `"dropped":2`) || strings.Count(a.body, `"record"`) != 1 || !strings.Contains(a.body, `"refused_omitted":1`) {
		t.Fatal(a.body)
	}
	w.server.Drain()
	var got []string
	for e := range f.events {
		for _, line := range e.lines {
			got = append(got, short(t, line))
		}
	}
	if !slices.Equal(got, []string{"A0=0", "A2=2", "A3=3"}) {
		t.Errorf("%q", got)
	}
}

// TestFollowStoreDown tells nothing of what could not be written, and all of it, once, when
// it is.
func TestFollowStoreDown(t *testing.T) {
	d := pgtest.Empty(t)
	proxy := pgtest.NewProxy(t, d.Cluster.Addr())
	_, err := postgres.Migrate(t.Context(), d.Owner, postgres.MigrateConfig{})
	_, grantErr := postgres.GrantService(t.Context(), d.Owner, d.Service)
	if err := errors.Join(err, grantErr); err != nil {
		t.Fatal(err)
	}
	cfg := server.Config{CommitTimeout: 300 * time.Millisecond, Heartbeat: 20 * time.Millisecond}
	cfg.Ingest.Circuit = ingest.Circuit{FailureThreshold: 1, HalfOpenAfter: time.Second}
	w := serve(t, d.Through(d.Service, proxy.Listen), cfg)
	f := w.follow(t, "?kind=bars")
	w.post(t, "/v1/bars", bar("A", 0, 1))
	if got := f.closes(1); got[0] != "A0=1" {
		t.Errorf("%q", got)
	}
	proxy.Stop()
	w.post(t, "/v1/bars", bar("A", 1, 2)+bar("A", 2, 3)).problem(t, http.StatusServiceUnavailable, "not_committed", "the records are queued")
	for range 5 { // signs of life
		<-f.ids
	}
	if len(f.events) > 0 {
		t.Errorf("it is told %+v", <-f.events)
	}
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	if got := f.closes(2); !slices.Equal(got, []string{"A1=2", "A2=3"}) {
		t.Errorf("%q", got)
	}
	w.server.Drain()
	f.over()
}

// TestFollowSlowly has a subscriber that does not read lose the oldest, and be told how
// many, while another one gets all, and ingestion goes on.
func TestFollowSlowly(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{WriteTimeout: time.Hour}) // it may be as slow as the machine
	fast := w.follow(t, "?kind=bars")
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v1/stream?kind=bars&format=ndjson HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	slow := bufio.NewReader(conn)
	if line, err := slow.ReadString('\n'); err != nil || !strings.Contains(line, "200 OK") {
		t.Fatal(line, err)
	}
	const bodies, rows = 30, 10_000
	go func() {
		for b := range bodies {
			var body strings.Builder
			for n := range rows {
				body.WriteString(`{"vendor":"v","symbol":"S` + strconv.Itoa(n%100) + `","timeframe":"1s","ts":` + strconv.Itoa(1_700_000_000+b*rows+n) + `,"close":` + strconv.Itoa(b*rows+n) + "}\n")
			}
			if a := w.post(t, "/v1/bars", body.String()); a.status != http.StatusOK {
				t.Error(a.body)
			}
		}
	}()
	seen := make(map[string]int)
	for n := 0; n < bodies*rows; {
		e := fast.next()
		if e.event != "bars" {
			t.Fatalf("the fast one is told %+v", e)
		}
		for _, line := range e.lines {
			seen[line]++
			n++
		}
	}
	if len(seen) != bodies*rows {
		t.Errorf("%d records are told", len(seen))
	}
	if text := w.get(t, "/metrics").body; !strings.Contains(text, "\nmds_live_subscribers 2\n") || strings.Contains(text, `mds_live_records_lost_total{reason="slow"} 0`) || !strings.Contains(text, "\nmds_live_records_encoded_total 300000\n") {
		t.Error("the metrics do not have it")
	}
	w.server.Drain()
	resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(strings.NewReader("HTTP/1.1 200 OK\r\n"), slow)), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	records, lost := 0, 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, `{"gap":`):
			var g struct{ Gap live.Gap }
			if err := json.Unmarshal([]byte(line), &g); err != nil || g.Gap.Reason != live.Slow || *g.Gap.AtMost != g.Gap.Lost {
				t.Errorf("%s %v", line, err)
			}
			lost += int(g.Gap.Lost)
		case line != "" && seen[line] == 1:
			seen[line]++
			records++
		case line != "":
			t.Fatalf("%s is told %d times", line, seen[line])
		}
	}
	if lost == 0 || records+lost != bodies*rows {
		t.Errorf("%d are told and %d lost, of %d", records, lost, bodies*rows)
	}
	t.Logf("%d are told and %d lost", records, lost)
}

// TestFollowAgain has a client that comes back be told whether it has missed anything.
func TestFollowAgain(t *testing.T) {
	dsn := "duckdb://" + t.TempDir()
	w := serve(t, dsn, server.Config{Heartbeat: 10 * time.Millisecond})
	f := w.follow(t, "?kind=bars&symbol=A")
	first := <-f.ids
	w.post(t, "/v1/bars", bar("A", 0, 1)+bar("B", 0, 1))
	e := f.next()
	w.post(t, "/v1/bars", bar("B", 1, 1)) // which it does not want, and yet has passed
	beaten := e.id
	for !strings.HasSuffix(beaten, "-3") {
		beaten = <-f.ids
	}
	f.stop()
	none := w.follow(t, "?kind=bars&symbol=A", "Last-Event-ID", beaten)
	w.post(t, "/v1/bars", bar("A", 2, 7))
	if got := none.closes(1); got[0] != "A2=7" {
		t.Errorf("who has missed nothing is told %q", got)
	}
	for _, tt := range []struct{ last, want string }{
		{first, `{"reason":"away","lost":0,"at_most":4}`},
		{e.id, `{"reason":"away","lost":0,"at_most":2}`},
		{"of-another-server", `{"reason":"restarted","lost":0}`},
	} {
		f := w.follow(t, "?kind=bars&symbol=A", "Last-Event-ID", tt.last)
		if e := f.next(); e.event != "gap" || len(e.lines) != 1 || e.lines[0] != tt.want {
			t.Errorf("of %s it is told %+v, want %s", tt.last, e, tt.want)
		}
	}
}

// TestFollowRevoked ends the stream of a key that is revoked.
func TestFollowRevoked(t *testing.T) {
	keyedEngines(t, func(t *testing.T, k *keyed) {
		token, id := k.make(t, "a", time.Time{}, mds.ScopeRead)
		kept, _ := k.make(t, "b", time.Time{}, mds.ScopeRead)
		revoked, stays := k.follow(t, "", bearer(token)...), k.follow(t, "", bearer(kept)...)
		if _, err := k.keys.Revoke(t.Context(), id, time.Now()); err != nil {
			t.Fatal(err)
		}
		revoked.over()
		<-stays.ids
		<-stays.ids
		k.get(t, "/v1/stream", bearer(token)...).problem(t, http.StatusUnauthorized, "revoked_key", "revoked")
	})
}

// TestFollowRefuses says what is wrong with a request.
func TestFollowRefuses(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{MaxStreams: 1})
	for _, tt := range []struct {
		query, accept string
		status        int
		code, detail  string
	}{
		{"?kind=trades", "", 400, "bad_parameter", `kind "trades": use bars, options, fundamentals or news`},
		{"?kind=rollups", "", 400, "bad_parameter", `kind "rollups": use`},
		{"?kind=news&timeframe=1m", "", 400, "bad_parameter", "timeframe: news have no such column; leave it out, or them"},
		{"?timeframe=1m&strike=5", "", 400, "bad_parameter", "no kind has all the columns that are picked by"},
		{"?kind=bars&timeframe=7x", "", 400, "bad_parameter", "timeframe: "},
		{"?start=2026-01-02", "", 400, "bad_parameter", `there is no parameter "start" here`},
		{"?format=ndjson", "", 400, "bad_parameter", "ndjson is of one kind, which its lines do not name: say kind"},
		{"", "text/csv", 406, "not_acceptable", `Accept is "text/csv": ask for text/event-stream or application/x-ndjson`},
	} {
		var headers []string
		if tt.accept != "" {
			headers = []string{"Accept", tt.accept}
		}
		w.get(t, "/v1/stream"+tt.query, headers...).problem(t, tt.status, tt.code, tt.detail)
	}
	text := w.get(t, "/metrics").body
	for _, want := range []string{
		"\nmds_live_subscribers 0\n", "\nmds_live_records_encoded_total 0\n", "\nmds_live_records_sent_total 0\n", "\nmds_live_buffer_bytes 0\n",
		`mds_live_records_lost_total{reason="slow"} 0`, `mds_live_records_lost_total{reason="overload"} 0`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	f := w.follow(t, "")
	w.get(t, "/v1/stream").problem(t, http.StatusTooManyRequests, "too_many_requests", "too many live streams are under way")
	feedback, err := w.client.Get(w.url + "/v1/bars/feedback")
	if err != nil || feedback.StatusCode != http.StatusOK {
		t.Errorf("who reads takes the place of who submits: %v", err)
	}
	_ = feedback.Body.Close()
	f.stop()
	await(t, "its place is free", func() bool {
		r, err := w.client.Get(w.url + "/v1/stream")
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}
