package server_test

import (
	"errors"
	"math"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/dlq"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/deadletter"
	"github.com/marketdatastore/mds/internal/server"
)

// letters are the dead letters of a server, which has their folder open.
type letters struct {
	*testing.T
	folder *dlq.Folder
}

func openLetters(t *testing.T) *letters {
	t.Helper()
	folder, err := dlq.Open(dlq.Config{Dir: filepath.Join(t.TempDir(), "letters")})
	if err != nil {
		t.Fatal(err)
	}
	return &letters{t, folder}
}

// died is when the letters of the default tenant were submitted.
var died = time.Date(2020, 1, 2, 15, 0, 0, 0, time.UTC)

// keep keeps a bar as the server's coordinators do, and returns its id.
func (l *letters) keep(tenant mds.Tenant, code, symbol string, price float64) string {
	l.Helper()
	submitted := died
	if tenant != mds.DefaultTenant() {
		submitted = time.Now() // it was not there then
	}
	return l.submitted(submitted, tenant, code, symbol, price)
}

// submitted is keep at some time.
func (l *letters) submitted(at time.Time, tenant mds.Tenant, code, symbol string, price float64) string {
	l.Helper()
	before := l.ids()
	letter := ingest.Letter[mds.Bar]{Record: tickOf(symbol, price), Tenant: tenant, Code: code, Reason: "given up", Submitted: at}
	if err := dlq.For[mds.Bar](l.folder, 1).Keep(l.Context(), []ingest.Letter[mds.Bar]{letter}); err != nil {
		l.Fatal(err)
	}
	return strings.TrimSpace(strings.TrimPrefix(l.ids(), before))
}

func tickOf(symbol string, price float64) mds.Bar {
	return mds.Bar{Vendor: "v", Symbol: symbol, Timeframe: mds.Minute, TS: time.Date(2026, 1, 2, 14, 30, 0, 0, time.UTC), Close: price}
}

// ids are those of the letters that are there.
func (l *letters) ids() string {
	l.Helper()
	var ids []string
	for letter, err := range (deadletter.Dir{Path: l.folder.Path()}).Letters(l.Context(), deadletter.Filter{}) {
		if err != nil {
			l.Fatal(err)
		}
		ids = append(ids, letter.ID)
	}
	return strings.Join(ids, " ")
}

// TestReplayJob writes dead letters of a server into the store while the server keeps others:
// they are gone, those that are refused again stay, and so does what is newer than they are.
func TestReplayJob(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		l := openLetters(t)
		w := serve(t, dsn, server.Config{Letters: l.folder})
		t.Cleanup(func() {
			if err := l.folder.Close(); err != nil {
				t.Error(err)
			}
		})
		acme, err := w.store.CreateTenant(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		w.post(t, "/v1/bars", bar("KNOWN", 0, 11))
		home := mds.DefaultTenant()
		l.keep(home, "exhausted", "NEW", 1)
		poison := l.keep(home, "invalid", "BAD", math.NaN())
		l.keep(home, "refused", "KNOWN", 2)
		foreign := l.keep(acme, "exhausted", "FOREIGN", 3)

		job := w.job(t, "/v1/jobs", `{"action": "replay"}`)
		if job.State != "done" || job.Written != 1 || job.Failed != 1 || job.PartsDone != 1 || job.Attempt != 1 ||
			!strings.HasPrefix(job.Note, "3 letters read = 1 written + 0 unchanged + 1 superseded + 1 still refused; still refused: "+poison+": close: NaN") {
			t.Errorf("%+v", job)
		}
		if got := l.ids(); got != poison+" "+foreign {
			t.Errorf("left are %s", got)
		}
		if got := w.get(t, "/v1/bars?format=csv").body; w.symbols(t) != "KNOWN NEW" || !strings.Contains(got, ",11,") {
			t.Errorf("stored are\n%s", got)
		}
		former := l.submitted(died, acme, "exhausted", "FORMER", 3) // of another one that had acme's name
		late := l.keep(home, "panic", "LATE", 4)                    // the writer goes on
		if job := w.job(t, "/v1/jobs", `{"action": "replay", "params": {"codes": ["invalid", "exhausted"]}, "all_tenants": true}`); job.State != "done" || job.Written != 1 || job.Failed != 1 || job.Tenant != "" {
			t.Errorf("%+v", job)
		}
		if got := w.symbols(t, "Mds-Tenant", "acme"); l.ids() != poison+" "+former+" "+late || got != "FOREIGN" {
			t.Errorf("left are %s; acme has %s", l.ids(), got)
		}
		stale := l.keep(home, "refused", "KNOWN", 5)
		for _, pick := range []string{
			`"params": {"kinds": ["news"]}`, `"params": {"before": "2020-01-01"}`, `"params": {"since": "2200-01-01T00:00:00Z"}`, `"vendor": "other"`, `"symbols": ["NONE"]`,
			`"params": {"ids": ["20261126T084200.123456Z-1a2b.7"]}`,
		} {
			if job := w.job(t, "/v1/jobs", `{"action": "replay", `+pick+`}`); job.State != "done" || job.Note != "no letters of test match" || l.ids() != poison+" "+former+" "+late+" "+stale {
				t.Errorf("%s: %+v; left are %s", pick, job, l.ids())
			}
		}
		job = w.job(t, "/v1/jobs", `{"action": "replay", "vendor": "V", "symbols": ["known"], "params": {"ids": ["`+stale+`"], "kinds": ["bars"], "codes": ["refused"], "since": "2026-01-01", "before": "2200-01-01", "overwrite": true}}`)
		if job.State != "done" || job.Written != 1 || !strings.Contains(w.get(t, "/v1/bars?format=csv&symbol=KNOWN").body, ",5,") || l.ids() != poison+" "+former+" "+late {
			t.Errorf("%+v; left are %s; stored are %s", job, l.ids(), w.get(t, "/v1/bars?format=csv").body)
		}
	})
}

// TestReplayRefused refuses what no replay would do, when it is asked for.
func TestReplayRefused(t *testing.T) {
	l := openLetters(t)
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{Letters: l.folder})
	for body, want := range map[string]string{
		`"params": {"kinds": ["trades"]}`:                           `params: kinds: "trades" is none: use bars, options, fundamentals, news`,
		`"params": {"codes": ["bad"]}`:                              `params: codes: "bad" is none: use invalid, refused, panic, exhausted`,
		`"params": {"ids": ["7"]}`:                                  `params: ids: "7" is no letter's; one is like`,
		`"params": {"since": "soon"}`:                               `params: since: `,
		`"params": {"since": "2026-01-02", "before": "2026-01-02"}`: `params: since is not before before`,
		`"params": {"kind": "bars"}`:                                `params: there is no member "kind"`,
		`"params": {"overwrite": "yes"}`:                            `params: overwrite is of another type, string`,
		`"dataset": "bars"`:                                         `dataset, start and end belong to other actions than replay`,
		`"start": "2026-01-01"`:                                     `dataset, start and end belong to other actions than replay`,
	} {
		w.ask(t, http.MethodPost, "/v1/jobs", strings.NewReader(`{"action": "replay", `+body+`}`)).problem(t, http.StatusBadRequest, "bad_job", want)
	}
	none := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	none.ask(t, http.MethodPost, "/v1/jobs", strings.NewReader(`{"action": "replay"}`)).problem(t, http.StatusConflict, "not_done_here", "this server does not do jobs of the action replay: it keeps no dead letters")
	if err := errors.Join(l.folder.Close()); err != nil {
		t.Error(err)
	}
}
