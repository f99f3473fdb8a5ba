package storetest

import (
	"maps"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
)

// testModel makes random batches, late ones, replays, deletions and reopenings and
// compares every way of reading with a map at the end.
func (h *kindHarness[R]) testModel() {
	rapid.Check(h.T, func(rt *rapid.T) {
		if _, err := h.table.Delete(h.ctx, mds.DefaultTenant(), mds.Selection{}); err != nil {
			rt.Fatal(err)
		}
		m := &kindModel[R]{kindHarness: h, records: make(map[string]R)}
		for range rapid.IntRange(1, 8).Draw(rt, "actions") {
			switch rapid.IntRange(0, 9).Draw(rt, "action") {
			default:
				m.draw(rt)
			case 5:
				m.sendLate(rt, rapid.SliceOfN(rapid.Custom(m.Draw), 0, 30).Draw(rt, "late batch"))
			case 6:
				m.send(rt, m.last) // perhaps newer data is there
			case 7, 8:
				m.delete(rt)
			case 9:
				h.reopen()
			}
		}
		m.check(rt)
	})
}

type kindModel[R mds.Record[R]] struct {
	*kindHarness[R]
	records map[string]R
	last    []R
}

func (m *kindModel[R]) draw(t *rapid.T) {
	m.last = rapid.SliceOfN(rapid.Custom(m.Draw), 0, 30).Draw(t, "batch")
	m.send(t, m.last)
}

func (m *kindModel[R]) send(t *rapid.T, batch []R) {
	want := m.note(batch, false)
	got, err := m.table.WriteBatch(m.ctx, mds.DefaultTenant(), batch)
	if err != nil || !sameCounts(m.store, got, want) {
		t.Fatalf("receipt %+v, %v; want %+v", got, err, want)
	}
}

// sendLate sends a batch that is older than all that is stored, or newer.
func (m *kindModel[R]) sendLate(t *rapid.T, batch []R) {
	as, older := soon(), rapid.Bool().Draw(t, "older")
	if older {
		as = longAgo
	}
	want := m.note(batch, older)
	got, err := m.table.WriteLate(m.ctx, mds.DefaultTenant(), batch, as)
	if err != nil || !sameCounts(m.store, got, want) {
		t.Fatalf("late receipt %+v, %v; want %+v", got, err, want)
	}
}

// note notes a batch, of which nothing replaces what is there where it is older, and
// returns its receipt.
func (m *kindModel[R]) note(batch []R, older bool) mds.Receipt {
	kept := make(map[string]R)
	for _, r := range batch {
		kept[m.key(&r)] = r
	}
	want := mds.Receipt{Superseded: int64(len(batch) - len(kept))}
	for key, r := range kept {
		switch have, ok := m.records[key]; {
		case ok && m.schema.Equal(&have, &r):
			want.Unchanged++
		case ok && older:
			want.Superseded++
		default:
			want.Written++
			m.records[key] = r
		}
	}
	return want
}

// selection draws a selection, and says in Go what it picks.
func (m *kindModel[R]) selection(t *rapid.T) (mds.Selection, func(R) bool) {
	like := m.Draw(t)
	var sel mds.Selection
	var tests []func(R) bool
	for _, c := range m.schema.ByRole(mds.Identity, mds.Key, mds.Revision) {
		if !rapid.Bool().Draw(t, "by "+c.Name) {
			continue
		}
		value := string(c.AppendText(nil, &like))
		switch c.Name {
		case "vendor":
			sel.Vendor = strings.ToUpper(value)
		case "symbol":
			sel.Symbols = []string{strings.ToLower(value), "NONE"}
		case "timeframe":
			sel.Timeframe = mds.Timeframe(value)
		default:
			if sel.Where == nil {
				sel.Where = make(map[string][]string)
			}
			sel.Where[c.Name] = []string{value}
		}
		tests = append(tests, func(r R) bool { return c.Equal(&r, &like) })
	}
	if c := m.schema.SymbolColumn(); c != nil && c.List != nil && !c.Missing(&like) && rapid.Bool().Draw(t, "by a symbol") {
		symbol := (*c.List(&like))[0]
		sel.Symbols = []string{symbol, "NONE"}
		tests = append(tests, func(r R) bool { return slices.Contains(*c.List(&r), symbol) })
	}
	if rapid.Bool().Draw(t, "in a window") {
		start := m.schema.Micros(&like)
		end := start + rapid.Int64Range(1, 10*int64(24*time.Hour/time.Microsecond)).Draw(t, "window")
		sel.Start, sel.End = time.UnixMicro(start).UTC(), time.UnixMicro(end).UTC()
		tests = append(tests, func(r R) bool {
			at := m.schema.Micros(&r)
			return start <= at && at < end
		})
	}
	return sel, func(r R) bool {
		return !slices.ContainsFunc(tests, func(picks func(R) bool) bool { return !picks(r) })
	}
}

func (m *kindModel[R]) delete(t *rapid.T) {
	sel, picks := m.selection(t)
	var want int64
	for key, r := range m.records {
		if picks(r) {
			delete(m.records, key)
			want++
		}
	}
	if got, err := m.table.Delete(m.ctx, mds.DefaultTenant(), sel); err != nil || got != want {
		t.Fatalf("deleted %d, %v; want %d with %+v", got, err, want, sel)
	}
}

// picked returns the model's records in an order.
func (m *kindModel[R]) picked(picks func(R) bool, order func(a, b R) int) []R {
	var out []R
	for _, r := range m.records {
		if picks(r) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, order)
	return out
}

func (m *kindModel[R]) check(t *rapid.T) {
	sel, picks := m.selection(t)
	same := func(what string, got, want []R) {
		if !m.equal(got, want) {
			t.Fatalf("%s of %+v:\n%s\nwant:\n%s", what, sel, m.texts(got), m.texts(want))
		}
	}
	reversed := func(list []R) []R {
		list = slices.Clone(list)
		slices.Reverse(list)
		return list
	}
	byTime, byIdentity := m.picked(picks, m.byTime), m.picked(picks, m.byIdentity)
	same("query", m.query(mds.Query{Selection: sel}), byTime)
	same("descending query", m.query(mds.Query{Selection: sel, Descending: true}), reversed(byTime))
	same("query by identity", m.query(mds.Query{Selection: sel, ByIdentity: true}), byIdentity)
	same("descending query by identity", m.query(mds.Query{Selection: sel, ByIdentity: true, Descending: true}), reversed(byIdentity))
	unordered := m.query(mds.Query{Selection: sel, Unordered: true})
	slices.SortFunc(unordered, m.byTime)
	same("unordered query", unordered, byTime)
	limit := rapid.IntRange(1, 20).Draw(t, "limit")
	if got := m.query(mds.Query{Selection: sel, Unordered: true, Limit: limit}); len(got) != min(limit, len(byTime)) {
		t.Fatalf("an unordered query of at most %d records gives %d of %d", limit, len(got), len(byTime))
	}
	same("limited query", m.query(mds.Query{Selection: sel, Limit: limit}), byTime[:min(limit, len(byTime))])
	if n, err := m.table.Count(m.ctx, mds.DefaultTenant(), sel); err != nil || n != int64(len(byTime)) {
		t.Fatalf("count %d, %v; want %d", n, err, len(byTime))
	}
	m.checkSeries(t, sel, byTime)
	if m.schema.TimeIsValue {
		if _, err := m.table.Latest(m.ctx, mds.DefaultTenant(), sel); err == nil {
			t.Fatal("a kind without series in time has a latest record")
		}
	} else {
		latest, err := m.table.Latest(m.ctx, mds.DefaultTenant(), sel)
		if err != nil {
			t.Fatal(err)
		}
		same("latest", latest, m.latest(byTime))
	}
	if revision := m.schema.RevisionColumn(); revision != nil {
		m.checkKnown(t, sel, picks, revision)
	}
}

func (m *kindModel[R]) checkSeries(t *rapid.T, sel mds.Selection, byTime []R) {
	rows := make(map[string][]int64)
	for _, r := range byTime {
		id := m.textOf(&r, mds.Identity)
		rows[id] = append(rows[id], m.schema.Micros(&r))
	}
	list, err := m.table.Series(m.ctx, mds.DefaultTenant(), sel)
	if err != nil || len(list) != len(rows) {
		t.Fatalf("%d series, %v; want %d", len(list), err, len(rows))
	}
	for _, s := range list {
		at := rows[m.textOf(&s.Identity, mds.Identity)]
		if s.Rows != int64(len(at)) || s.First.UnixMicro() != at[0] || s.Last.UnixMicro() != at[len(at)-1] {
			t.Fatalf("series %s: %d rows from %s to %s, want %d", m.text(&s.Identity), s.Rows, s.First, s.Last, len(at))
		}
	}
}

// latest is the newest record of each series and key, its versions joined, in
// order of identity.
func (m *kindModel[R]) latest(byTime []R) []R {
	newest := make(map[string][]R)
	for _, r := range byTime {
		id := m.textOf(&r, mds.Identity, mds.Key)
		if have := newest[id]; len(have) > 0 && mds.Compare(m.schema.ByRole(mds.Time), &have[0], &r) != 0 {
			newest[id] = nil
		}
		newest[id] = append(newest[id], r)
	}
	return m.joined(newest, m.byIdentity)
}

// joined makes one record of the versions of each fact.
func (m *kindModel[R]) joined(facts map[string][]R, order func(a, b R) int) []R {
	var out []R
	for _, versions := range facts {
		slices.SortFunc(versions, m.byIdentity)
		last := versions[len(versions)-1]
		for i := len(versions) - 2; i >= 0; i-- {
			m.fill(&last, &versions[i])
		}
		out = append(out, last)
	}
	slices.SortFunc(out, order)
	return out
}

// fill gives a record the figures that only an older version has.
func (m *kindModel[R]) fill(newer, older *R) {
	for _, c := range m.schema.ByRole(mds.Value) {
		switch {
		case c.OptFloat != nil && c.Missing(newer):
			*c.OptFloat(newer) = *c.OptFloat(older)
		case c.Metrics != nil:
			all := make(map[string]float64)
			maps.Copy(all, *c.Metrics(older))
			maps.Copy(all, *c.Metrics(newer))
			if len(all) == 0 {
				all = nil
			}
			*c.Metrics(newer) = all
		}
	}
}

func (m *kindModel[R]) checkKnown(t *rapid.T, sel mds.Selection, picks func(R) bool, revision *mds.Column[R]) {
	like := m.Draw(t)
	sel.KnownAt = *revision.Time(&like)
	facts := make(map[string][]R)
	for _, r := range m.records {
		if picks(r) && !revision.Time(&r).After(sel.KnownAt) {
			id := m.textOf(&r, mds.Identity, mds.Key, mds.Time)
			facts[id] = append(facts[id], r)
		}
	}
	want := m.joined(facts, m.byTime)
	for _, descending := range []bool{false, true} {
		got := m.query(mds.Query{Selection: sel, Descending: descending})
		if !m.equal(got, want) {
			t.Fatalf("known at %s, descending %v:\n%s\nwant:\n%s", sel.KnownAt, descending, m.texts(got), m.texts(want))
		}
		slices.Reverse(want)
	}
	columns := slices.Concat(m.schema.ByRole(mds.Identity, mds.Key), m.schema.ByRole(mds.Time))
	slices.SortFunc(want, func(a, b R) int { return mds.Compare(columns, &a, &b) })
	if got := m.query(mds.Query{Selection: sel, ByIdentity: true}); !m.equal(got, want) {
		t.Fatalf("known at %s by identity:\n%s\nwant:\n%s", sel.KnownAt, m.texts(got), m.texts(want))
	}
	if n, err := m.table.Count(m.ctx, mds.DefaultTenant(), sel); err != nil || n != int64(len(want)) {
		t.Fatalf("count of what was known: %d, %v; want %d", n, err, len(want))
	}
	if _, err := m.table.Delete(m.ctx, mds.DefaultTenant(), sel); err == nil {
		t.Fatal("what was known at a time was deleted")
	}
}
