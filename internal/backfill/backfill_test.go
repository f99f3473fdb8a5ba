package backfill_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/backfill"
)

func date(text string) time.Time {
	at, err := time.Parse(time.DateOnly, text)
	if err != nil {
		panic(err)
	}
	return at
}

// TestRefusals says of each spec that is none what is wrong with it.
func TestRefusals(t *testing.T) {
	rules := &backfill.Rules{Dir: t.TempDir(), Hosts: map[string]http.Header{"data.example.com": nil, "127.0.0.1:80": nil}}
	none := backfill.Range{}
	year := backfill.Range{Symbols: []string{"A"}, Start: date("2024-01-01"), End: date("2025-01-01")}
	for _, tt := range []struct {
		name, params string
		r            backfill.Range
		want         string
	}{
		{"nothing", `{}`, year, "params: name files or a url, one of them"},
		{"both", `{"files":["a"],"url":"https://data.example.com/a"}`, year, "params: name files or a url, one of them"},
		{"no object", `[]`, year, "params: it is of another type, array"},
		{"two objects", `{"files":["a"]} {}`, year, "params: there is more than one JSON object"},
		{"a typo", `{"file":["a"]}`, year, `params: there is no member "file"`},
		{"step of files", `{"files":["a"],"step":"1d"}`, year, "params: step and missing belong to a url"},
		{"missing what", `{"url":"https://data.example.com/a","missing":"ok"}`, year, `params: missing "ok": use fail or skip`},
		{"symbol from where", `{"files":["a"],"symbol_from":"x"}`, year, `params: symbol_from "x": use filename, or leave it out`},
		{"symbol of a url", `{"url":"https://data.example.com/a","symbol_from":"filename"}`, year, "params: symbol_from belongs to files"},
		{"outside", `{"files":["../a"]}`, none, `files: "../a" is not below the folder`},
		{"far outside", `{"files":["/etc/passwd"]}`, none, `files: "/etc/passwd" is not below the folder`},
		{"not there", `{"files":["a*.csv"]}`, none, "files: there is no a*.csv in the folder"},
		{"no pattern", `{"files":["["]}`, none, `files: "[" is no pattern`},
		{"symbols of files", `{"files":["a"]}`, year, "files: symbols, start and end belong to a url; of files all records are loaded"},
		{"a symbol that climbs", `{"url":"https://data.example.com/v1/{symbol}/x"}`, backfill.Range{Symbols: []string{"A", ".."}}, `url: with the symbol ".." it leads to another folder of the host`},
		{"one that stays", `{"url":"https://data.example.com/v1/{symbol}"}`, backfill.Range{Symbols: []string{"."}}, `url: with the symbol "." it leads`},
		{"one with a folder", `{"url":"https://data.example.com/v1/{symbol}"}`, backfill.Range{Symbols: []string{"a/../../b"}}, `url: with the symbol "a/../../b" it leads`},
		{"half of one", `{"url":"https://data.example.com/v1/%2e{symbol}/x"}`, backfill.Range{Symbols: []string{"."}}, `url: with the symbol "." it leads`},
		{"another host", `{"url":"https://evil.example/a"}`, year, "url: the host evil.example is none that this server asks"},
		{"another port", `{"url":"https://data.example.com:8443/a"}`, year, "url: the host data.example.com:8443 is none"},
		{"plain", `{"url":"http://data.example.com/a"}`, year, "url: data.example.com is asked over https only"},
		{"a file", `{"url":"file:///etc/passwd"}`, year, "url: it is none such as"},
		{"a password", `{"url":"https://u:p@data.example.com/a"}`, year, "url: it has placeholders in its path and query only, and neither a password"},
		{"a host of placeholders", `{"url":"https://{symbol}.example.com/a"}`, year, "url: it is none such as"},
		{"no placeholder", `{"url":"https://data.example.com/{sym}"}`, year, "url: there is no {sym}; use {symbol}"},
		{"no symbols", `{"url":"https://data.example.com/{symbol}"}`, backfill.Range{}, "url: it asks for a symbol: name symbols"},
		{"symbols of none", `{"url":"https://data.example.com/all"}`, backfill.Range{Symbols: []string{"A", "B"}}, "url: there are several symbols, and no {symbol} in it"},
		{"no span", `{"url":"https://data.example.com/?from={start}"}`, backfill.Range{}, "url: it asks for a span of time: name start and end"},
		{"a step of none", `{"url":"https://data.example.com/all","step":"1d"}`, year, "step: the url asks for no span of time"},
		{"no step", `{"url":"https://data.example.com/{start}","step":"1h"}`, year, `step "1h": write a number and d, mo or y`},
		{"too many", `{"url":"https://data.example.com/{start}","step":"1d"}`, backfill.Range{Start: date("0001-01-02"), End: date("2025-01-01")}, `step "1d": these are more than 100000 requests`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec, err := backfill.Parse([]byte(tt.params))
			if err == nil {
				_, err = spec.Parts(t.Context(), rules, tt.r)
			}
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
	spec, err := backfill.Parse([]byte(`{"files":["a"]}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := spec.Parts(t.Context(), &backfill.Rules{}, none); err == nil || !strings.Contains(err.Error(), "jobs.dir names the folder") {
		t.Errorf("without a folder: %v", err)
	}
}

// TestSpans has the spans of requests meet, and cover what was asked for.
func TestSpans(t *testing.T) {
	rules := &backfill.Rules{Hosts: map[string]http.Header{"data.example.com": nil}}
	for _, tt := range []struct {
		step, start, end string
		want             []string
	}{
		{"", "2024-01-15", "2024-03-10", []string{"2024-01-15 2024-03-10"}},
		{"1mo", "2024-01-31", "2024-04-10", []string{"2024-01-31 2024-02-01", "2024-02-01 2024-03-01", "2024-03-01 2024-04-01", "2024-04-01 2024-04-10"}},
		{"30d", "2024-01-31", "2024-04-10", []string{"2024-01-31 2024-03-01", "2024-03-01 2024-03-31", "2024-03-31 2024-04-10"}},
		{"1y", "2023-06-01", "2025-01-01", []string{"2023-06-01 2024-01-01", "2024-01-01 2025-01-01"}},
		{"2mo", "2024-01-01", "2024-03-01", []string{"2024-01-01 2024-03-01"}},
	} {
		spec, err := backfill.Parse(fmt.Appendf(nil, `{"url":"https://data.example.com/{symbol}?a={start}&b={end}","step":%q}`, tt.step))
		if err != nil {
			t.Fatal(err)
		}
		parts, err := spec.Parts(t.Context(), rules, backfill.Range{Symbols: []string{"A", "B/C"}, Start: date(tt.start), End: date(tt.end)})
		if err != nil {
			t.Fatal(err)
		}
		var want, got []string
		for _, symbol := range []string{"A", "B/C"} {
			for _, w := range tt.want {
				from, to, _ := strings.Cut(w, " ")
				want = append(want, symbol+" "+from+"T00:00:00Z "+to+"T00:00:00Z")
			}
		}
		for _, p := range parts {
			got = append(got, p.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s of %s to %s:\n%q, want\n%q", tt.step, tt.start, tt.end, got, want)
		}
	}
}

// TestFiles finds the files of patterns, and none that a link leads out to.
func TestFiles(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{dir + "/b.csv": "b", dir + "/a.csv": "a", dir + "/sub/c.csv": "c", dir + "/x.txt": "x", outside + "/secret.csv": "s"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o750), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink(outside+"/secret.csv", dir+"/link.csv"), os.Symlink(outside, dir+"/out")); err != nil {
		t.Fatal(err)
	}
	rules := &backfill.Rules{Dir: dir}
	read := func(pattern string) (names, texts []string, err error) {
		spec, err := backfill.Parse(fmt.Appendf(nil, `{"files":[%q]}`, pattern))
		if err != nil {
			t.Fatal(err)
		}
		parts, err := spec.Parts(t.Context(), rules, backfill.Range{})
		if err != nil {
			return nil, nil, err
		}
		for _, p := range parts {
			names = append(names, p.Name)
			f, err := spec.Open(t.Context(), rules, p)
			if err != nil {
				return names, texts, err
			}
			text, err := io.ReadAll(f)
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(text))
		}
		return names, texts, nil
	}
	if names, texts, err := read("[a-c].csv"); err != nil || !slices.Equal(names, []string{"a.csv", "b.csv"}) || !slices.Equal(texts, []string{"a", "b"}) {
		t.Errorf("%q %q %v", names, texts, err)
	}
	if names, texts, err := read(dir + "/sub/*"); err != nil || !slices.Equal(names, []string{"sub/c.csv"}) || !slices.Equal(texts, []string{"c"}) {
		t.Errorf("%q %q %v", names, texts, err)
	}
	for _, pattern := range []string{"link.csv", "out/secret.csv", "out/*", "sub"} {
		if _, texts, err := read(pattern); err == nil || texts != nil {
			t.Errorf("%s is read: %q %v", pattern, texts, err)
		}
	}
}

// TestFetch asks hosts as they are to be asked, and no others, wherever they lead.
func TestFetch(t *testing.T) {
	var other *httptest.Server
	var asked []string
	host := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String()+" "+r.Header.Get("X-Api-Key"))
		if from := r.Header.Get("Referer"); from != "" { // whose query may have a key
			t.Errorf("%s is told of %s", r.URL, from)
		}
		switch {
		case strings.HasPrefix(r.URL.Path, "/away"):
			http.Redirect(w, r, other.URL+"/stolen", http.StatusFound)
		case strings.HasPrefix(r.URL.Path, "/moved"):
			http.Redirect(w, r, "/A", http.StatusFound)
		case strings.HasPrefix(r.URL.Path, "/busy"):
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		case strings.HasPrefix(r.URL.Path, "/none"):
			w.WriteHeader(http.StatusNotFound)
		case strings.HasPrefix(r.URL.Path, "/silent"):
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		default:
			_, _ = io.WriteString(w, "records")
		}
	}))
	defer host.Close()
	other = httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("another host is asked for %s with %q", r.URL, r.Header.Get("X-Api-Key"))
	}))
	defer other.Close()
	name := strings.TrimPrefix(host.URL, "https://")
	rules := &backfill.Rules{Hosts: map[string]http.Header{name: {"X-Api-Key": {"secret"}}}, Transport: host.Client().Transport, Timeout: 200 * time.Millisecond, MaxBytes: 100}
	get := func(url, missing string) (string, error) {
		spec, err := backfill.Parse(fmt.Appendf(nil, `{"url":%q,"missing":%q}`, url, missing))
		if err != nil {
			t.Fatal(err)
		}
		parts, err := spec.Parts(t.Context(), rules, backfill.Range{Symbols: []string{"BRK/B &"}, Start: date("2024-01-01"), End: date("2024-02-01")})
		if err != nil {
			t.Fatal(err)
		}
		body, err := spec.Open(t.Context(), rules, parts[0])
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(body)
		_ = body.Close()
		return string(text), err
	}
	if text, err := get(host.URL+"/{symbol}?s={symbol}&from={start_ms}&to={end_time}", ""); err != nil || text != "records" {
		t.Errorf("%q %v", text, err)
	}
	if want := "/BRK%2FB%20&?s=BRK%2FB+%26&from=1704067200000&to=2024-02-01T00%3A00%3A00Z secret"; asked[0] != want {
		t.Errorf("asked for %s, want %s", asked[0], want)
	}
	if text, err := get(host.URL+"/moved/{symbol}", ""); err != nil || text != "records" {
		t.Errorf("%q %v", text, err)
	}
	var e *backfill.Error
	if _, err := get(host.URL+"/away/{symbol}", ""); !errors.As(err, &e) || mds.Retryable(err) || !strings.Contains(err.Error(), "is none that this server asks") {
		t.Errorf("led away: %v", err)
	}
	if _, err := get(host.URL+"/busy/{symbol}", ""); !errors.As(err, &e) || !mds.Retryable(err) || e.After != 7*time.Second {
		t.Errorf("busy: %v", err)
	}
	if _, err := get(host.URL+"/none/{symbol}", ""); err == nil || mds.Retryable(err) || errors.Is(err, backfill.ErrNothing) {
		t.Errorf("none: %v", err)
	}
	if _, err := get(host.URL+"/none/{symbol}", "skip"); !errors.Is(err, backfill.ErrNothing) {
		t.Errorf("none, skipped: %v", err)
	}
	if text, err := get(host.URL+"/silent/{symbol}", ""); text != "half" || !mds.Retryable(err) || !strings.Contains(err.Error(), "ends too early") {
		t.Errorf("silent: %q %v", text, err)
	}
	rules.MaxBytes = 3
	if _, err := get(host.URL+"/long/{symbol}", ""); err == nil || mds.Retryable(err) || !strings.Contains(err.Error(), "larger than a body may be") {
		t.Errorf("long: %v", err)
	}
	if strings.Contains(fmt.Sprint(asked), "stolen") {
		t.Error(asked)
	}
}

// roundTripper asks nobody.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestEndedByBreakingOff is of an answer whose end is the other side's answer to our breaking
// it off: over TLS the last chunk may arrive before the connection is closed.
func TestEndedByBreakingOff(t *testing.T) {
	rules := &backfill.Rules{
		Hosts: map[string]http.Header{"vendor.example": {}}, Timeout: time.Millisecond,
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			body, w := io.Pipe()
			go func() {
				_, _ = io.WriteString(w, "half")
				<-r.Context().Done()
				_ = w.Close()
			}()
			return &http.Response{StatusCode: http.StatusOK, Body: body}, nil
		}),
	}
	spec, err := backfill.Parse([]byte(`{"url":"https://vendor.example/{symbol}"}`))
	if err != nil {
		t.Fatal(err)
	}
	parts, err := spec.Parts(t.Context(), rules, backfill.Range{Symbols: []string{"SPY"}})
	if err != nil {
		t.Fatal(err)
	}
	body, err := spec.Open(t.Context(), rules, parts[0])
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if text, err := io.ReadAll(body); string(text) != "half" || !mds.Retryable(err) || !strings.Contains(err.Error(), "the answer of vendor.example ends too early: nothing came for 1ms") {
		t.Errorf("%q %v", text, err)
	}
}
