package server_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store"
)

// readBack reads a file of bars as mds ingest does.
func readBack(t *testing.T, path string) (bars []mds.Bar) {
	t.Helper()
	f, err := codec.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	decoder, err := codec.NewDecoder[mds.Bar](f, "", codec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		var b mds.Bar
		if err := decoder.Next(&b); errors.Is(err, io.EOF) {
			return bars
		} else if err != nil {
			t.Fatal(err)
		}
		bars = append(bars, b)
	}
}

// stored are the bars that a selection picks, in order of an export.
func (w *world) stored(t *testing.T, tenant mds.Tenant, sel mds.Selection) (bars []mds.Bar) {
	t.Helper()
	for b, err := range store.Bars(w.store).Query(t.Context(), tenant, mds.Query{Selection: sel, ByIdentity: true}) {
		if err != nil {
			t.Fatal(err)
		}
		bars = append(bars, b)
	}
	return bars
}

// below are the files below a folder.
func below(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

// TestExportJob writes files that are read back to the rows that the store has, each tenant's
// into a folder of its own.
func TestExportJob(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		out := filepath.Join(t.TempDir(), "made", "by the server")
		w := serve(t, dsn, server.Config{Jobs: &server.JobsConfig{Exports: out}})
		acme, err := w.store.CreateTenant(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		w.post(t, "/v1/bars", bar("A", 0, 1.25)+bar("A", 1, 2)+bar("A/B", 0, 3)+strings.Replace(bar("A", 0, 4), "1m", "1h", 1)+strings.Replace(bar("A", 0, 5), `"v"`, `"w"`, 1))
		w.post(t, "/v1/bars", bar("FOREIGN", 0, 9), "Mds-Tenant", "acme")
		home := mds.DefaultTenant()

		job := w.job(t, "/v1/jobs", `{"action": "export", "dataset": "bars", "params": {"out": "backup/all.csv.gz"}}`)
		if job.State != "done" || job.Written != 5 || job.Parts != 1 || job.PartsDone != 1 || job.Failed != 0 {
			t.Errorf("%+v", job)
		}
		if got, want := fmt.Sprintf("%+v", readBack(t, filepath.Join(out, "default", "backup", "all.csv.gz"))), fmt.Sprintf("%+v", w.stored(t, home, mds.Selection{})); got != want {
			t.Errorf("it comes back as\n%s\nwant\n%s", got, want)
		}
		job = w.job(t, "/v1/jobs", `{"action": "export", "dataset": "bars", "vendor": "V", "symbols": ["a"], "start": "2026-01-02T14:30:00Z", "end": "2026-01-02T14:31:00Z", "params": {"out": "some.txt", "format": "ndjson", "where": {"timeframe": ["minute"]}}}`)
		if got := readBack(t, filepath.Join(out, "default", "some.txt")); job.State != "done" || len(got) != 1 || got[0].Close != 1.25 {
			t.Errorf("%+v, %+v", job, got)
		}
		job = w.job(t, "/v1/jobs", `{"action": "export", "dataset": "bars", "all_tenants": true, "params": {"out": "by", "template": "{vendor}/{symbol}-{timeframe}-{start}.ndjson.zst"}}`)
		if job.State != "done" || job.Written != 6 || job.Parts != 5 || job.PartsDone != 5 {
			t.Errorf("%+v", job)
		}
		if got, want := below(t, out), "acme/by/v/FOREIGN-1m-20260102.ndjson.zst default/backup/all.csv.gz default/by/v/A-1h-20260102.ndjson.zst default/by/v/A-1m-20260102.ndjson.zst default/by/v/A_B-1m-20260102.ndjson.zst default/by/w/A-1m-20260102.ndjson.zst default/some.txt"; got != want {
			t.Errorf("there are %s\nwant      %s", got, want)
		}
		if got, want := fmt.Sprintf("%+v", readBack(t, filepath.Join(out, "acme/by/v/FOREIGN-1m-20260102.ndjson.zst"))), fmt.Sprintf("%+v", w.stored(t, acme, mds.Selection{})); got != want {
			t.Errorf("it comes back as\n%s\nwant\n%s", got, want)
		}
		// What is there is replaced, and nothing is an empty file.
		job = w.job(t, "/v1/jobs", `{"action": "export", "dataset": "bars", "symbols": ["NONE"], "params": {"out": "backup/all.csv.gz"}}`)
		if got := readBack(t, filepath.Join(out, "default", "backup", "all.csv.gz")); job.State != "done" || job.Written != 0 || len(got) != 0 {
			t.Errorf("%+v, %+v", job, got)
		}
		if job := w.job(t, "/v1/jobs", `{"action": "export", "dataset": "news", "params": {"out": "news", "template": "{vendor}.csv"}}`); job.State != "done" || job.Parts != 0 {
			t.Errorf("%+v", job)
		}
		if job := w.job(t, "/v1/jobs", `{"action": "export", "dataset": "rollups", "params": {"out": "rollups.csv"}}`); job.State != "done" {
			t.Errorf("%+v", job)
		}
	})
}

// TestExportResumes goes on where another attempt was broken off: what is written is not written
// again, what was left of a file that was not is gone; on another machine all is written.
func TestExportResumes(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		for _, machine := range []string{"here", "there"} {
			out := t.TempDir()
			w := serve(t, dsn, server.Config{Jobs: &server.JobsConfig{Concurrency: -1}})
			w.post(t, "/v1/bars", bar("A", 0, 1)+bar("B", 0, 2)+bar("C", 0, 3))
			ctx := t.Context()
			job, _, err := w.jobs.Enqueue(ctx, mds.Job{Action: mds.JobExport, Tenant: mds.DefaultTenant(), Dataset: "bars", Params: []byte(`{"out": ".", "template": "{symbol}.csv"}`)})
			if err != nil {
				t.Fatal(err)
			}
			dead, ok, err := w.jobs.Claim(ctx, "here/1", "test", []mds.JobAction{mds.JobExport}, time.Hour)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			write(t, filepath.Join(out, "default", "A.csv"), "written before")
			write(t, filepath.Join(out, "default", ".B.csv.job-"+job.ID+"-1"), "half of")
			for _, name := range []string{"A", "C"} { // of which the file was removed meanwhile
				dead.PartsDone++
				if err := w.jobs.PartDone(ctx, dead, mds.JobPart{Name: "default/" + name + ".csv on here", Written: 1}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := w.jobs.Beat(ctx, dead, -time.Second); err != nil { // it dies
				t.Fatal(err)
			}
			w.stop()
			err = <-w.ended
			w.ended <- err
			if strings.HasPrefix(dsn, "duckdb") { // one process has the file
				if err := errors.Join(w.jobs.Close(), w.store.Close()); err != nil {
					t.Fatal(err)
				}
			}
			heir := serve(t, dsn, server.Config{Jobs: &server.JobsConfig{Exports: out, Worker: machine + "/2"}})
			var now client.Job
			await(t, "it is done", func() bool {
				now = client.Job{}
				heir.get(t, "/v1/jobs/"+job.ID).into(t, http.StatusOK, &now)
				return now.State == "done"
			})
			if now.Attempt != 2 || now.Worker != machine+"/2" || now.Parts != now.PartsDone {
				t.Errorf("%+v", now)
			}
			if got := below(t, out); got != "default/A.csv default/B.csv default/C.csv" {
				t.Errorf("there are %s", got)
			}
			text, err := os.ReadFile(filepath.Join(out, "default", "A.csv"))
			if err != nil || (string(text) == "written before") != (machine == "here") {
				t.Errorf("on %s the first file is %q, %v", machine, text, err)
			}
			if got := readBack(t, filepath.Join(out, "default", "B.csv")); len(got) != 1 || got[0].Close != 2 {
				t.Errorf("%+v", got)
			}
			heir.stop()
			err = <-heir.ended
			heir.ended <- err
			if strings.HasPrefix(dsn, "duckdb") {
				if err := errors.Join(heir.jobs.Close(), heir.store.Close()); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// TestExportStaysInside writes nothing outside of its folder, whatever leads there, and leaves
// no half file.
func TestExportStaysInside(t *testing.T) {
	out, outside := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "mine.csv"), "mine")
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{Jobs: &server.JobsConfig{Exports: out}})
	w.post(t, "/v1/bars", bar("A", 0, 1))
	home := filepath.Join(out, "default")
	if err := errors.Join(os.MkdirAll(filepath.Join(home, "folder.csv"), 0o750), os.Symlink(outside, filepath.Join(home, "leads")),
		os.Symlink(filepath.Join(outside, "mine.csv"), filepath.Join(home, "link.csv")), os.Symlink(filepath.Join(outside, "new.csv"), filepath.Join(home, "dangling.csv")),
		os.Symlink("../acme", filepath.Join(home, "other"))); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"leads/mine.csv":   "default/leads/mine.csv: path escapes from parent",
		"leads/sub/x.csv":  "default/leads/sub/x.csv: path escapes from parent",
		"link.csv":         "default/link.csv: there is something of that name that is no regular file",
		"dangling.csv":     "default/dangling.csv: there is something of that name that is no regular file",
		"folder.csv":       "default/folder.csv: there is something of that name that is no regular file",
		"link.csv/sub.csv": "default/link.csv/sub.csv: ",
	} {
		job := w.job(t, "/v1/jobs", fmt.Sprintf(`{"action": "export", "dataset": "bars", "params": {"out": %q}}`, name))
		if job.State != "failed" || !strings.Contains(job.Error, want) || strings.Contains(job.Error, out) || strings.Contains(job.Error, "\n") || job.Attempt != 1 {
			t.Errorf("%s: %+v", name, job)
		}
	}
	if got := below(t, outside); got != "mine.csv" {
		t.Errorf("outside are %s", got)
	}
	if text, err := os.ReadFile(filepath.Join(outside, "mine.csv")); err != nil || string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
	if got := below(t, out); got != "default/dangling.csv default/leads default/link.csv default/other" {
		t.Errorf("there are %s", got)
	}
}

// TestExportRefused refuses what no export would do, when it is asked for.
func TestExportRefused(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{Jobs: &server.JobsConfig{Exports: t.TempDir()}})
	const leadsOut = "it leads out of the folder that this server writes to: write a path in it, such as backup/bars.csv.gz"
	for body, want := range map[string]string{
		`"params": {"out": "a.csv"}`:                                                               `dataset "": use bars, options, fundamentals, news, rollups`,
		`"dataset": "trades", "params": {"out": "a.csv"}`:                                          `dataset "trades": use bars`,
		`"dataset": "bars"`:                                                                        `params: out: name a file`,
		`"dataset": "bars", "params": {"out": "."}`:                                                `params: out: name a file`,
		`"dataset": "bars", "params": {"out": "../a.csv"}`:                                         "params: out: " + leadsOut,
		`"dataset": "bars", "params": {"out": "a/../../a.csv"}`:                                    "params: out: " + leadsOut,
		`"dataset": "bars", "params": {"out": "/etc/a.csv"}`:                                       "params: out: " + leadsOut,
		`"dataset": "bars", "params": {"out": "a\u0000.csv"}`:                                      "params: ",
		`"dataset": "bars", "params": {"out": "a", "template": "../../{symbol}.csv"}`:              "params: template: " + leadsOut,
		`"dataset": "bars", "params": {"out": "a", "template": "{strike}.csv"}`:                    `params: template: there is no {strike} for bars; use {table}, {start}, {end}, {vendor}, {symbol} and {timeframe}`,
		`"dataset": "bars", "params": {"out": "a.txt"}`:                                            `params: a.txt does not say its format: name it .csv or .ndjson`,
		`"dataset": "bars", "params": {"out": "a.csv", "format": "parquet"}`:                       `params: format "parquet": use csv or ndjson`,
		`"dataset": "bars", "params": {"out": "a.csv", "file": "b.csv"}`:                           `params: there is no member "file"`,
		`"dataset": "bars", "params": {"out": "a.csv", "where": {"close": ["1"]}}`:                 `params: where: bars are not picked by "close": use vendor, timeframe, or the symbols of the job`,
		`"dataset": "bars", "params": {"out": "a.csv", "where": {"symbol": ["A"]}}`:                `params: where: bars are not picked by "symbol": use vendor, timeframe, or the symbols of the job`,
		`"dataset": "bars", "params": {"out": "a.csv", "where": {"timeframe": ["1y"]}}`:            `timeframe: `,
		`"dataset": "bars", "vendor": "v", "params": {"out": "a.csv", "where": {"vendor": ["w"]}}`: `params: where: the job says the vendor`,
	} {
		w.ask(t, http.MethodPost, "/v1/jobs", strings.NewReader(`{"action": "export", `+body+`}`)).problem(t, http.StatusBadRequest, "bad_job", want)
	}
	none := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	none.ask(t, http.MethodPost, "/v1/jobs", strings.NewReader(`{"action": "export", "dataset": "bars", "params": {"out": "a.csv"}}`)).
		problem(t, http.StatusConflict, "not_done_here", "this server does not do jobs of the action export: its setting jobs.exports names the folder that it may write to")
}
