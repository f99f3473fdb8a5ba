package backfill

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// FuzzURL asks no host but those that are allowed, whatever the template and the symbol are,
// and has each symbol where the template says.
func FuzzURL(f *testing.F) {
	f.Add("https://a.example/{symbol}?from={start}&to={end_ms}", "BRK.B")
	f.Add("https://a.example@b.example/{symbol}", "x")
	f.Add("https://a.example/{symbol}", "../../@b.example/")
	f.Add("https://a.example?{symbol}", "&key=1#")
	f.Add("https://A.example:443/%2f{symbol}", "\\b.example")
	rules := Rules{Hosts: map[string]http.Header{"a.example": nil}}
	day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, template, symbol string) {
		params, err := json.Marshal(map[string]string{"url": template})
		if err != nil {
			t.Fatal(err)
		}
		spec, err := Parse(params)
		if err != nil {
			return
		}
		parts, err := spec.Parts(t.Context(), &rules, Range{Symbols: []string{symbol}, Start: day, End: day.AddDate(0, 0, 1)})
		if err != nil {
			return
		}
		for _, p := range parts {
			r, err := http.NewRequest(http.MethodGet, p.url, nil)
			if err != nil {
				continue // it is refused when it is asked for
			}
			if !strings.EqualFold(r.URL.Host, "a.example") || r.URL.Scheme != "https" || r.URL.User != nil {
				t.Errorf("%q with %q asks %s", template, symbol, p.url)
			}
			before, err := url.Parse(template)
			if err == nil && before.RawQuery == "" && r.URL.RawQuery != "" {
				t.Errorf("%q with %q asks %s", template, symbol, p.url)
			}
		}
	})
}
