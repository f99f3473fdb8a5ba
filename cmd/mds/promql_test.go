package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// selector is a series selector of a PromQL expression, such as up{job="mds"}.
type selector struct {
	text, metric string
	labels       []string // that it compares
}

// promQL is what a PromQL expression names.
type promQL struct {
	selectors []selector
	grouped   []string // labels of by, without, on, ignoring, group_left and group_right
}

var (
	// tokens are comments, strings, ranges, label matchers, names, numbers and what else there
	// is. A brace within a string belongs to the string.
	tokens   = regexp.MustCompile("#[^\n]*|" + quoted + `|\[[^\]]*\]|\{(?:` + quoted + `|[^{}"'` + "`" + `])*\}|[a-zA-Z_:][\w:]*|[0-9][\w.]*|\S`)
	matchers = regexp.MustCompile(`([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*(?:` + quoted + `)`)
	isName   = regexp.MustCompile(`^[a-zA-Z_:]`)
)

const quoted = `"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'` + "|`[^`]*`"

// words of PromQL that are no metrics, where no parenthesis follows either.
var (
	groupings  = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}
	operators  = []string{"and", "or", "unless", "offset", "bool", "atan2", "inf", "nan", "start", "end"}
	aggregates = []string{"sum", "min", "max", "avg", "group", "stddev", "stdvar", "count", "count_values", "bottomk", "topk", "quantile"}
)

// namesOf tells what an expression names. That it is PromQL at all Prometheus says.
func namesOf(expr string) (names promQL) {
	all := slices.DeleteFunc(tokens.FindAllString(expr, -1), func(s string) bool { return s[0] == '#' })
	next := func(i int) string {
		if i+1 < len(all) {
			return all[i+1]
		}
		return ""
	}
	for i := 0; i < len(all); i++ {
		word := strings.ToLower(all[i])
		switch {
		case slices.Contains(groupings, word):
			if next(i) != "(" {
				continue
			}
			for i += 2; i < len(all) && all[i] != ")"; i++ {
				if isName.MatchString(all[i]) {
					names.grouped = append(names.grouped, all[i])
				}
			}
		case !isName.MatchString(all[i]), next(i) == "(", slices.Contains(operators, word), slices.Contains(aggregates, word):
		default:
			s := selector{text: all[i], metric: all[i]}
			if matching := next(i); strings.HasPrefix(matching, "{") {
				s.text += matching
				for _, m := range matchers.FindAllStringSubmatch(matching, -1) {
					s.labels = append(s.labels, m[1])
				}
			}
			names.selectors = append(names.selectors, s)
		}
	}
	return names
}

func TestNamesOf(t *testing.T) {
	for _, tt := range []struct{ expr, selectors, labels, grouped string }{
		{`up`, "up", "", ""},
		{`up{job="mds"} == 0 or absent(up{job="mds"})`, `up{job="mds"} up{job="mds"}`, "job job", ""},
		{`sum(rate(a_total[5m])) by (sink)`, "a_total", "", "sink"},
		{"sum by (le, sink) (rate(a_bucket{x=~\"{5}..\", y != 'b\"}'}[1m:10s] offset 5m))\n  / on (sink) group_left(z) max without () (b:c) # d", "a_bucket{x=~\"{5}..\", y != 'b\"}'} b:c", "x y", "le sink sink z"},
		{`histogram_quantile(0.95, rate(a[5m] @ end())) > bool 1e3`, "a", "", ""},
		{`topk(3, a) unless ignoring(b) c{d!~"e"}`, `a c{d!~"e"}`, "d", "b"},
		{`time() - 5 * Inf`, "", "", ""},
	} {
		names := namesOf(tt.expr)
		var texts, labels []string
		for _, s := range names.selectors {
			texts, labels = append(texts, s.text), append(labels, s.labels...)
		}
		wantText(t, "selectors of "+tt.expr, strings.Join(texts, " "), tt.selectors)
		wantText(t, "labels of "+tt.expr, strings.Join(labels, " "), tt.labels)
		wantText(t, "groups of "+tt.expr, strings.Join(names.grouped, " "), tt.grouped)
	}
}
