package server_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store"
)

// document is what of the OpenAPI document the tests go by.
type document struct {
	OpenAPI    string
	Paths      map[string]map[string]described
	Components struct{ Schemas map[string]schema }
}

type described struct {
	OperationID string
	Tags        []string
	Parameters  []parameter
	RequestBody struct {
		Content map[string]struct{ Schema schema }
	}
	Responses map[string]struct{ Content map[string]json.RawMessage }
}

type parameter struct {
	Name, In string
	Schema   schema
}

type schema struct {
	Type       any    // a name, or several
	Ref        string `json:"$ref"`
	Format     string
	Enum       []any
	Items      *schema
	Properties map[string]schema
}

func describedBy(t *testing.T, w *world) document {
	t.Helper()
	a := w.get(t, "/openapi.json")
	var d document
	a.into(t, http.StatusOK, &d)
	for _, m := range regexp.MustCompile(`"\$ref":"([^"]*)"`).FindAllStringSubmatch(a.body, -1) {
		if _, ok := d.Components.Schemas[strings.TrimPrefix(m[1], "#/components/schemas/")]; !ok {
			t.Errorf("%s leads nowhere", m[1])
		}
	}
	return d
}

// TestDocument describes what is served: each operation is there, and takes the parameters
// that it says.
func TestDocument(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	d := describedBy(t, w)
	if _, ok := d.Paths["/v1/policies"]["put"]; !ok {
		t.Error("no PUT is described")
	}
	if d.OpenAPI != "3.1.0" {
		t.Error(d.OpenAPI)
	}
	ids := make(map[string]bool)
	for path, methods := range d.Paths {
		for method, o := range methods {
			if ids[o.OperationID] || o.OperationID == "" {
				t.Errorf("%s %s is called %q", method, path, o.OperationID)
			}
			ids[o.OperationID] = true
			if strings.HasSuffix(path, "/feedback") || path == "/v1/stream" {
				continue // it goes on for ever
			}
			a := w.ask(t, strings.ToUpper(method), path, nil)
			if strings.Contains(path, "{id}") && slices.Contains(o.Tags, "jobs") {
				a.problem(t, http.StatusNotFound, "unknown_job", `there is no such job: "{id}"`)
				continue
			}
			if a.status == http.StatusNotFound && strings.Contains(a.body, `"code":"not_found"`) || a.status == http.StatusMethodNotAllowed || a.status >= 500 {
				t.Errorf("%s %s is answered %d", method, path, a.status)
			}
		}
	}
	for _, path := range []string{"/v1/bars", "/v1/options", "/v1/fundamentals", "/v1/news"} {
		if len(d.Paths[path]) != 3 {
			t.Errorf("%s has %v", path, slices.Sorted(maps.Keys(d.Paths[path])))
		}
	}
	for path, methods := range d.Paths {
		if path == "/v1/sql" || path == "/v1/jobs/{id}/cancel" || path == "/v1/jobs/cleanup" {
			continue // which may be done twice
		}
		for method, o := range methods {
			if slices.Contains(o.Tags, "control") {
				continue // which say themselves what comes of the same again
			}
			takes := slices.ContainsFunc(o.Parameters, func(p parameter) bool { return p.Name == "Idempotency-Key" && p.In == "header" })
			if _, refuses := o.Responses["422"]; takes != (method == "post") || refuses != takes {
				t.Errorf("%s %s takes Idempotency-Key: %v, refuses one: %v", method, path, takes, refuses)
			}
		}
	}
	bar := d.Components.Schemas["bars"]
	if bar.Properties["close"].Type != "number" || bar.Properties["ts"].Format != "date-time" || len(bar.Properties) != 11 {
		t.Errorf("%+v", bar)
	}
}

// TestReference shows each operation, with what it takes.
func TestReference(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	page := w.get(t, "/")
	if page.status != http.StatusOK || !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") || !strings.Contains(page.header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("%d %v", page.status, page.header)
	}
	for path, methods := range describedBy(t, w).Paths {
		for _, o := range methods {
			if !strings.Contains(page.body, `<details id="`+o.OperationID+`">`) || !strings.Contains(page.body, ">"+path+"<") {
				t.Errorf("no %s", o.OperationID)
			}
			for _, p := range o.Parameters {
				if !strings.Contains(page.body, "<code>"+p.Name+"</code>") {
					t.Errorf("no parameter %s of %s", p.Name, o.OperationID)
				}
			}
		}
	}
	if strings.Contains(page.body, "ZgotmplZ") || strings.Contains(page.body, "&lt;nil&gt;") {
		t.Error("the page has what a template could not write")
	}
}

// TestAnything sends what the document says, and what it does not say, in any mixture: no
// answer is the server's own fault, and each is one that is described.
func TestAnything(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	usual := checks.Value.String()
	defer func() { _ = checks.Value.Set(usual) }()
	owned(t, func(t *testing.T, dsn, owner string) {
		if usual == checks.DefValue { // it is fast, and there is much to find
			_ = checks.Value.Set("1000")
		}
		st, err := store.Open(t.Context(), dsn, store.Config{})
		if err != nil {
			t.Fatal(err)
		}
		anything(t, serve(t, dsn, controlling(t, st, owner), st))
	})
}

func anything(t *testing.T, w *world) {
	d := describedBy(t, w)
	var paths []string
	for path := range d.Paths {
		if !strings.HasSuffix(path, "/feedback") && path != "/v1/stream" {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.SampledFrom(paths).Draw(t, "path")
		methods := slices.Sorted(maps.Keys(d.Paths[path]))
		method := rapid.SampledFrom(methods).Draw(t, "method")
		o := d.Paths[path][method]
		values := make(url.Values)
		for _, p := range o.Parameters {
			if p.In == "query" && rapid.IntRange(0, 4).Draw(t, "whether "+p.Name) == 0 {
				values.Add(p.Name, word(t, d, p.Schema))
			}
		}
		var body string
		media := ""
		if len(o.RequestBody.Content) > 0 {
			media = rapid.SampledFrom(slices.Sorted(maps.Keys(o.RequestBody.Content))).Draw(t, "media")
			schema, records := o.RequestBody.Content["application/x-ndjson"]
			if !records {
				schema = o.RequestBody.Content[media]
			}
			body = bodyOf(t, d, media, schema.Schema)
			if !records { // one document
				body = strings.TrimSuffix(strings.TrimPrefix(body, "["), "]")
			}
		}
		r, err := http.NewRequestWithContext(context.Background(), strings.ToUpper(method), w.url+path+"?"+values.Encode(), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", media)
		if slices.ContainsFunc(o.Parameters, func(p parameter) bool { return p.Name == "Idempotency-Key" && p.In == "header" }) && rapid.Bool().Draw(t, "whether a key") {
			r.Header.Set("Idempotency-Key", rapid.SampledFrom([]string{"a", "b", `"c"`, `"`, "d e", "", strings.Repeat("f", 256)}).Draw(t, "key"))
		}
		resp, err := w.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%v after %s", err, text)
		}
		if resp.StatusCode >= 500 {
			t.Fatalf("%d %s", resp.StatusCode, text)
		}
		answer, ok := o.Responses[strconv.Itoa(resp.StatusCode)]
		if !ok {
			answer = o.Responses["default"]
		}
		media, _, _ = strings.Cut(resp.Header.Get("Content-Type"), ";")
		if _, ok := answer.Content[media]; !ok {
			t.Fatalf("%d is answered with %s", resp.StatusCode, media)
		}
		if strings.HasSuffix(media, "json") && !strings.Contains(media, "ndjson") && !json.Valid(text) {
			t.Fatalf("no JSON: %s", text)
		}
	})
}

// word is a value for a schema, or nearly.
func word(t *rapid.T, d document, s schema) string {
	if s.Ref != "" {
		s = d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	if s.Items != nil {
		s = *s.Items
	}
	if len(s.Enum) > 0 && rapid.Bool().Draw(t, "one of them") {
		return fmt.Sprint(rapid.SampledFrom(s.Enum).Draw(t, "value"))
	}
	return rapid.OneOf(
		rapid.SampledFrom([]string{
			"1", "0", "-1", "1.5", "1e400", "9999999999999999999", "NaN", "2026-01-02", "2026-01-02T03:04:05Z", "0001-01-01", "9999-12-31", "now", "1m", "1d", "1mo", "7x", "UTC",
			"America/New_York", "C", "P", "FY", "MSFT", "SPXW  240315C05000000", ",", "a,b", "eyJ0IjoxLCJrIjpbXSwicSI6IiJ9", "close=x", "#1", "true", "\x00", "ü", "\xff",
		}),
		rapid.String(),
	).Draw(t, "value")
}

// bodyOf is a body of records, or nearly.
func bodyOf(t *rapid.T, d document, media string, s schema) string {
	record := d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	names := slices.Sorted(maps.Keys(record.Properties))
	var lines []string
	for range rapid.IntRange(0, 3).Draw(t, "rows") {
		fields := make(map[string]any)
		var cells []string
		for _, name := range names {
			text := word(t, d, record.Properties[name])
			if cells = append(cells, text); rapid.Bool().Draw(t, "whether "+name) {
				fields[name] = text
				if record.Properties[name].Type == "number" {
					fields[name] = rapid.Float64().Draw(t, name)
				}
			}
		}
		line, err := json.Marshal(fields)
		if err != nil || media == "text/csv" {
			line = []byte(strings.Join(cells, ","))
		}
		lines = append(lines, string(line))
	}
	switch media {
	case "text/csv":
		lines = append([]string{strings.Join(names, ",")}, lines...)
	case "application/json":
		return "[" + strings.Join(lines, ",") + "]"
	}
	return rapid.OneOf(rapid.Just(strings.Join(lines, "\n")), rapid.String()).Draw(t, "body")
}

// TestServingPage asks for what docs/serving.md says may be asked for.
func TestServingPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/serving.md")
	if err != nil {
		t.Fatal(err)
	}
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	asked := 0
	for _, m := range regexp.MustCompile(`http://127\.0\.0\.1:8080(/[^\s'"]+)`).FindAllStringSubmatch(string(page), -1) {
		if query, live := strings.CutPrefix(m[1], "/v1/stream"); live {
			w.follow(t, query).stop()
		} else if a := w.get(t, m[1]); a.status != http.StatusOK && !strings.Contains(m[1], "vendor=yahoo") {
			t.Errorf("%s is answered %d, %s", m[1], a.status, a.body)
		}
		asked++
	}
	line := regexp.MustCompile(`'(\{"vendor.*\})'`).FindStringSubmatch(string(page))
	if asked < 4 || line == nil {
		t.Fatal("the page has other examples")
	}
	if a := w.post(t, "/v1/bars", line[1]); a.status != http.StatusOK || !strings.Contains(a.body, `"committed":1`) {
		t.Errorf("%d %s", a.status, a.body)
	}
}
