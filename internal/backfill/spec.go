// Package backfill finds the parts that history is filled in from: files of an allowed
// folder, or what URLs of allowed hosts answer for each symbol and span of time.
package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/marketdatastore/mds/internal/document"
)

// Spec says where records come from, and how they are read, as the parameters of a job say
// it in JSON.
type Spec struct {
	// Files are paths or patterns (path/filepath.Match) below the allowed folder.
	Files []string `json:"files,omitempty"`
	// URL is that of a symbol's records in a span, with {symbol}, {start}, {end} (dates),
	// {start_time}, {end_time} (RFC 3339), {start_unix}, {end_unix} (seconds) or {start_ms},
	// {end_ms} in its path or query.
	URL string `json:"url,omitempty"`
	// Step is the span of one request: a number and d, mo or y. "" asks for all at once.
	Step string `json:"step,omitempty"`
	// Missing says what 404 and 204 mean: "fail", or "skip" where a span may have nothing.
	// Defaults to "fail".
	Missing string `json:"missing,omitempty"`

	// Format is csv, ndjson, json or that of a vendor; "" tells CSV and NDJSON apart.
	Format string `json:"format,omitempty"`
	// TZ is the time zone of times without an offset.
	TZ string `json:"tz,omitempty"`
	// Label is the end of a bar that its time names, start or end.
	Label string `json:"label,omitempty"`
	// Columns say which column of the input feeds a column of the records.
	Columns map[string]string `json:"columns,omitempty"`
	// NoHeader says that the first line of CSV is data.
	NoHeader bool `json:"no_header,omitempty"`
	// Fixed are values of every record.
	Fixed map[string]string `json:"fixed,omitempty"`
	// SymbolFrom is "filename" where a file's name is its symbol.
	SymbolFrom string `json:"symbol_from,omitempty"`
}

// Range is what a job asks for beside.
type Range struct {
	Symbols    []string
	Start, End time.Time
}

// Parse reads the parameters of a job. Its error is one sentence.
func Parse(params []byte) (s Spec, err error) {
	if err := document.Read(params, &s); err != nil {
		return s, fmt.Errorf("params: %w", err)
	}
	switch {
	case (len(s.Files) == 0) == (s.URL == ""):
		return s, errors.New("params: name files or a url, one of them")
	case s.URL == "" && (s.Step != "" || s.Missing != ""):
		return s, errors.New("params: step and missing belong to a url")
	case s.Missing != "" && s.Missing != "fail" && s.Missing != "skip":
		return s, fmt.Errorf("params: missing %q: use fail or skip", s.Missing)
	case s.SymbolFrom != "" && s.SymbolFrom != "filename":
		return s, fmt.Errorf("params: symbol_from %q: use filename, or leave it out", s.SymbolFrom)
	case s.SymbolFrom != "" && s.URL != "":
		return s, errors.New("params: symbol_from belongs to files; of a url the symbol is the one that is asked for")
	}
	return s, nil
}

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// spans are the names that a URL may have of a span.
var spans = map[string]func(start, end time.Time) string{
	"{start}":      func(start, _ time.Time) string { return start.Format(time.DateOnly) },
	"{end}":        func(_, end time.Time) string { return end.Format(time.DateOnly) },
	"{start_time}": func(start, _ time.Time) string { return start.Format(time.RFC3339) },
	"{end_time}":   func(_, end time.Time) string { return end.Format(time.RFC3339) },
	"{start_unix}": func(start, _ time.Time) string { return strconv.FormatInt(start.Unix(), 10) },
	"{end_unix}":   func(_, end time.Time) string { return strconv.FormatInt(end.Unix(), 10) },
	"{start_ms}":   func(start, _ time.Time) string { return strconv.FormatInt(start.UnixMilli(), 10) },
	"{end_ms}":     func(_, end time.Time) string { return strconv.FormatInt(end.UnixMilli(), 10) },
}

// Part is one file, or one URL.
type Part struct {
	// Name tells it from the others of the job.
	Name string
	// Symbol is whose records it has, where it is of one.
	Symbol string

	path, url string
}

// Parts are those of a spec, in order: of a URL symbol by symbol, the oldest span first.
// What takes long ends with ctx.
func (s *Spec) Parts(ctx context.Context, rules *Rules, r Range) ([]Part, error) {
	if s.URL == "" {
		if len(r.Symbols) > 0 || !r.Start.IsZero() || !r.End.IsZero() {
			return nil, errors.New("files: symbols, start and end belong to a url; of files all records are loaded: leave them out, and name the files that have what you want")
		}
		return s.files(ctx, rules)
	}
	template, err := s.template(rules)
	if err != nil {
		return nil, err
	}
	has := func(name string) bool { return slices.Contains(placeholder.FindAllString(template, -1), name) }
	timed := slices.ContainsFunc(placeholder.FindAllString(template, -1), func(p string) bool { return spans[p] != nil })
	switch {
	case has("{symbol}") && len(r.Symbols) == 0:
		return nil, errors.New("url: it asks for a symbol: name symbols")
	case !has("{symbol}") && len(r.Symbols) > 1:
		return nil, errors.New("url: there are several symbols, and no {symbol} in it")
	case timed && (r.Start.IsZero() || r.End.IsZero()):
		return nil, errors.New("url: it asks for a span of time: name start and end")
	case !timed && s.Step != "":
		return nil, errors.New("step: the url asks for no span of time")
	}
	windows := []Range{{Start: r.Start.UTC(), End: r.End.UTC()}}
	if s.Step != "" {
		if windows, err = steps(s.Step, r.Start.UTC(), r.End.UTC()); err != nil {
			return nil, err
		}
	}
	symbols := r.Symbols
	if len(symbols) == 0 {
		symbols = []string{""}
	}
	if n := len(symbols) * len(windows); n > mostParts {
		return nil, fmt.Errorf("step: these are %d requests, and a job has at most %d: take a longer step, or fewer symbols", n, mostParts)
	}
	parts := make([]Part, 0, len(symbols)*len(windows))
	for _, symbol := range symbols {
		if len(windows) > 0 && climbs(fill(template, symbol, windows[0].Start, windows[0].End)) {
			return nil, fmt.Errorf("url: with the symbol %q it leads to another folder of the host: leave the symbol out", symbol)
		}
		for _, w := range windows {
			p := Part{Symbol: symbol, url: fill(template, symbol, w.Start, w.End)}
			var words []string
			if symbol != "" {
				words = append(words, symbol)
			}
			if timed {
				words = append(words, w.Start.Format(time.RFC3339), w.End.Format(time.RFC3339))
			}
			p.Name = cmp.Or(strings.Join(words, " "), "all")
			parts = append(parts, p)
		}
	}
	return parts, nil
}

// climbs reports a URL whose path has a segment that leads elsewhere.
func climbs(text string) bool {
	u, err := url.Parse(text)
	return err == nil && slices.ContainsFunc(strings.Split(u.Path, "/"), func(s string) bool { return s == "." || s == ".." })
}

// mostParts bounds the requests of a job, and its files.
const mostParts = 100_000

// template is the URL, which leads to an allowed host whatever its placeholders are.
func (s *Spec) template(rules *Rules) (string, error) {
	for _, p := range placeholder.FindAllString(s.URL, -1) {
		if p != "{symbol}" && spans[p] == nil {
			return "", fmt.Errorf("url: there is no %s; use {symbol}, {start}, {end}, {start_time}, {end_time}, {start_unix}, {end_unix}, {start_ms} or {end_ms}", p)
		}
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return "", errors.New("url: it is none such as https://example.com/{symbol}.csv")
	}
	if u.User != nil || u.Fragment != "" || strings.ContainsAny(u.Host, "{}") {
		return "", errors.New("url: it has placeholders in its path and query only, and neither a password nor a fragment")
	}
	return s.URL, rules.allow(u)
}

// fill puts values in the place of a URL's placeholders, as texts of its path or its query.
func fill(template, symbol string, start, end time.Time) string {
	path, query, asked := strings.Cut(template, "?")
	put := func(text string, escape func(string) string) string {
		return placeholder.ReplaceAllStringFunc(text, func(p string) string {
			if p == "{symbol}" {
				return escape(symbol)
			}
			return escape(spans[p](start, end))
		})
	}
	out := put(path, url.PathEscape)
	if asked {
		out += "?" + put(query, url.QueryEscape)
	}
	return out
}

var stepForm = regexp.MustCompile(`^([1-9][0-9]{0,3})(d|mo|y)$`)

// steps are the spans of a window, each of which begins where the one before it ends.
func steps(step string, start, end time.Time) ([]Range, error) {
	form := stepForm.FindStringSubmatch(step)
	if form == nil {
		return nil, fmt.Errorf("step %q: write a number and d, mo or y, such as 30d, 1mo or 1y", step)
	}
	n, _ := strconv.Atoi(form[1]) // as the form has it
	next := func(i int) time.Time {
		switch form[2] {
		case "d":
			return start.AddDate(0, 0, n*i)
		case "mo":
			// Not the day of the first month, which later ones may not have.
			return time.Date(start.Year(), start.Month()+time.Month(n*i), 1, 0, 0, 0, 0, time.UTC)
		}
		return time.Date(start.Year()+n*i, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	var windows []Range
	for at, i := start, 1; at.Before(end); i++ {
		to := next(i)
		if to.After(end) {
			to = end
		}
		windows = append(windows, Range{Start: at, End: to})
		at = to
		if len(windows) > mostParts {
			return nil, fmt.Errorf("step %q: these are more than %d requests: take a longer one", step, mostParts)
		}
	}
	return windows, nil
}
