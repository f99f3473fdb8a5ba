package live

import (
	"fmt"
	"slices"
	"strings"

	"github.com/marketdatastore/mds"
)

// listener is a subscriber to a topic, which is one of its kinds.
type listener struct {
	*Subscription
	kind int
}

// topic is what some subscribers want all the same.
type topic[R any] struct {
	form       Form
	conditions []mds.Condition[R] // but for that of the symbol
	listeners  []listener

	// What follows is the encoder's.
	open    []byte // of the next frame
	records int64
	seen    int64 // the record that was looked at last
}

// wants reports whether a record meets the conditions.
func (t *topic[R]) wants(r *R) bool {
	for i := range t.conditions {
		c := &t.conditions[i]
		met := false
		for v := 0; v < len(c.Values) && !met; v++ {
			met = c.Column.Equal(&c.Values[v], r)
		}
		if !met {
			return false
		}
	}
	return true
}

// index finds the topics that want a record. It does not change: another one takes its
// place.
type index[R any] struct {
	symbol   *mds.Column[R]
	topics   []*topic[R]
	any      []*topic[R]            // of any symbol
	bySymbol map[string][]*topic[R] // of some
}

// member is a subscriber to a kind with what it wants of it.
type member[R any] struct {
	listener
	key        string // of its topic
	conditions []mds.Condition[R]
}

// newIndex is the index of subscribers; nil for none.
func newIndex[R any](symbol *mds.Column[R], members []member[R]) *index[R] {
	if len(members) == 0 {
		return nil
	}
	x := &index[R]{symbol: symbol, bySymbol: make(map[string][]*topic[R])}
	known := make(map[string]*topic[R])
	for _, m := range members {
		t := known[m.key]
		if t == nil {
			t = &topic[R]{form: m.form}
			known[m.key] = t
			x.add(t, m.conditions)
		}
		t.listeners = append(t.listeners, m.listener)
	}
	return x
}

func (x *index[R]) add(t *topic[R], conditions []mds.Condition[R]) {
	x.topics = append(x.topics, t)
	picked := false
	for _, c := range conditions {
		if x.symbol == nil || c.Column.Name != x.symbol.Name {
			t.conditions = append(t.conditions, c)
			continue
		}
		picked = true
		for i := range c.Values {
			for _, s := range symbols(x.symbol, &c.Values[i]) {
				if !slices.Contains(x.bySymbol[s], t) {
					x.bySymbol[s] = append(x.bySymbol[s], t)
				}
			}
		}
	}
	if !picked {
		x.any = append(x.any, t)
	}
}

// symbols are those of a record.
func symbols[R any](c *mds.Column[R], r *R) []string {
	if c.List != nil {
		return *c.List(r)
	}
	return []string{*c.Text(r)}
}

// find appends the topics that want a record, which is number n.
func (x *index[R]) find(hits []*topic[R], r *R, n int64) []*topic[R] {
	for _, t := range x.any {
		if t.wants(r) {
			hits = append(hits, t)
		}
	}
	switch {
	case len(x.bySymbol) == 0:
	case x.symbol.Text != nil:
		hits = x.findSymbol(hits, *x.symbol.Text(r), r, n)
	default:
		for _, s := range *x.symbol.List(r) {
			hits = x.findSymbol(hits, s, r, n)
		}
	}
	return hits
}

func (x *index[R]) findSymbol(hits []*topic[R], symbol string, r *R, n int64) []*topic[R] {
	for _, t := range x.bySymbol[symbol] {
		if t.seen != n && t.wants(r) {
			hits = append(hits, t)
		}
		t.seen = n
	}
	return hits
}

// keyOf is the same for conditions that pick the same, as they are written.
func keyOf[R any](form Form, conditions []mds.Condition[R]) string {
	var b strings.Builder
	fmt.Fprint(&b, int(form))
	for _, c := range conditions {
		values := make([]string, len(c.Values))
		for i := range c.Values {
			values[i] = string(c.Column.AppendJSON(nil, &c.Values[i]))
		}
		slices.Sort(values)
		fmt.Fprint(&b, "\n", c.Column.Name, " ", strings.Join(values, ","))
	}
	return b.String()
}
