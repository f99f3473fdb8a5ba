package storetest

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

// Kind is what the suite needs to know of a kind of record.
type Kind[R mds.Record[R]] struct {
	// Draw draws a valid record in its stored form from few keys and values, so
	// that batches collide with themselves and each other.
	Draw func(*rapid.T) R
	// Extremes are valid records in their stored form, at the edges of what the
	// kind can hold; no two have one key.
	Extremes []R
	// Numbered returns a valid record in its stored form, another for each n, at
	// an instant, or a date, that is later for each k.
	Numbered func(n, k int) R
	// Invalid are records that must be refused.
	Invalid map[string]R
	// Spelled are valid records that are not in their stored form.
	Spelled []R
	// Config opens the store, for kinds that bring migrations of their own.
	Config store.Config
}

// RunKind runs the part of the suite that holds for every kind. fresh returns
// the DSN of an empty store of the test's own, which it cleans up.
func RunKind[R mds.Record[R]](t *testing.T, fresh func(t testing.TB) (dsn string), kind Kind[R]) {
	for _, test := range []struct {
		name string
		run  func(*kindHarness[R])
	}{
		{"ExtremesComeBack", (*kindHarness[R]).testExtremes},
		{"InvalidRecordsAreRefused", (*kindHarness[R]).testInvalid},
		{"SpellingsAreNormalised", (*kindHarness[R]).testSpelled},
		{"TenantsAreApart", (*kindHarness[R]).testTenants},
		{"Pages", (*kindHarness[R]).testPages},
		{"LateRecords", (*kindHarness[R]).testLate},
		{"Model", (*kindHarness[R]).testModel},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := &kindHarness[R]{T: t, Kind: kind, ctx: context.Background(), dsn: fresh(t), schema: mds.SchemaOf[R]()}
			h.open()
			t.Cleanup(func() {
				if err := h.store.Close(); err != nil {
					t.Error(err)
				}
			})
			test.run(h)
		})
	}
}

type kindHarness[R mds.Record[R]] struct {
	*testing.T
	Kind[R]
	ctx    context.Context
	dsn    string
	schema mds.Schema[R]
	store  *store.Store
	table  store.Table[R]
}

func (h *kindHarness[R]) open() {
	s, err := store.Open(h.ctx, h.dsn, h.Config)
	if err != nil {
		h.Fatal(err)
	}
	h.store, h.table = s, store.TableOf[R](s)
}

func (h *kindHarness[R]) reopen() {
	if err := h.store.Close(); err != nil {
		h.Fatal(err)
	}
	h.open()
}

// text shows a record by its columns.
func (h *kindHarness[R]) text(r *R) string {
	var b []byte
	for i := range h.schema.Columns {
		c := &h.schema.Columns[i]
		b = append(append(b, c.Name...), '=')
		b = append(c.AppendJSON(b, r), ' ')
	}
	return string(b)
}

func (h *kindHarness[R]) texts(records []R) string {
	lines := make([]string, len(records))
	for i := range records {
		lines[i] = h.text(&records[i])
	}
	return strings.Join(lines, "\n")
}

func (h *kindHarness[R]) equal(a, b []R) bool {
	return slices.EqualFunc(a, b, func(x, y R) bool { return h.schema.Equal(&x, &y) })
}

func (h *kindHarness[R]) collect(records iter.Seq2[R, error]) []R {
	h.Helper()
	var all []R
	for r, err := range records {
		if err != nil {
			h.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

func (h *kindHarness[R]) query(q mds.Query) []R {
	h.Helper()
	return h.collect(h.table.Query(h.ctx, mds.DefaultTenant(), q))
}

// key is the key of a record as text.
func (h *kindHarness[R]) key(r *R) string {
	roles := []mds.Role{mds.Identity, mds.Key, mds.Revision, mds.Time}
	if h.schema.TimeIsValue {
		roles = roles[:3]
	}
	return h.textOf(r, roles...)
}

func (h *kindHarness[R]) textOf(r *R, roles ...mds.Role) string {
	var b []byte
	for _, c := range h.schema.ByRole(roles...) {
		b = append(c.AppendJSON(b, r), '\n')
	}
	return string(b)
}

// byTime and byIdentity are the orders that mds.Query promises.
func (h *kindHarness[R]) byTime(a, b R) int {
	if order := mds.Compare(h.schema.ByRole(mds.Time), &a, &b); order != 0 {
		return order
	}
	return h.byIdentity(a, b)
}

func (h *kindHarness[R]) byIdentity(a, b R) int {
	columns := slices.Concat(h.schema.ByRole(mds.Identity, mds.Key, mds.Revision), h.schema.ByRole(mds.Time))
	return mds.Compare(columns, &a, &b)
}

func (h *kindHarness[R]) write(records []R, written, unchanged, superseded int64) {
	h.Helper()
	got, err := h.table.WriteBatch(h.ctx, mds.DefaultTenant(), records)
	if want := (mds.Receipt{Written: written, Unchanged: unchanged, Superseded: superseded}); err != nil || !sameCounts(h.store, got, want) {
		h.Fatalf("receipt %+v, %v; want %+v", got, err, want)
	}
}

func (h *kindHarness[R]) testExtremes() {
	n := int64(len(h.Extremes))
	if n == 0 {
		h.Fatal("the kind names no extremes")
	}
	h.write(h.Extremes, n, 0, 0)
	h.reopen()
	want := slices.SortedFunc(slices.Values(h.Extremes), h.byIdentity)
	if got := h.query(mds.Query{ByIdentity: true}); !h.equal(got, want) {
		h.Errorf("came back:\n%s\nwant:\n%s", h.texts(got), h.texts(want))
	}
	h.write(h.Extremes, 0, n, 0)
}

func (h *kindHarness[R]) testInvalid() {
	good := h.Extremes[0]
	for name, bad := range h.Invalid {
		_, err := h.table.WriteBatch(h.ctx, mds.DefaultTenant(), []R{good, bad, good})
		var record *mds.RecordError
		var invalid *mds.InvalidError
		if !errors.As(err, &record) || record.Index != 1 || !errors.As(err, &invalid) || mds.Retryable(err) {
			h.Errorf("%s: got %v, want a permanent RecordError of record 1", name, err)
		}
	}
	if got := h.query(mds.Query{}); len(got) > 0 {
		h.Errorf("stored were %s", h.texts(got))
	}
}

func (h *kindHarness[R]) testSpelled() {
	before := h.texts(h.Spelled)
	n := int64(len(h.Spelled))
	h.write(h.Spelled, n, 0, 0)
	if after := h.texts(h.Spelled); after != before {
		h.Errorf("the batch was changed to\n%s", after)
	}
	want := slices.Clone(h.Spelled)
	for i := range want {
		h.schema.Normalize(&want[i])
	}
	slices.SortFunc(want, h.byTime)
	if got := h.query(mds.Query{}); !h.equal(got, want) {
		h.Errorf("came back:\n%s\nwant:\n%s", h.texts(got), h.texts(want))
	}
	h.write(h.Spelled, 0, n, 0)
	h.write(want, 0, n, 0)
}

// testPages reads more records than a backend is likely to fetch at once: few
// of one instant, then very many of one, then few again.
func (h *kindHarness[R]) testPages() {
	var records []R
	for n := range 3000 {
		records = append(records, h.Numbered(n, n/3))
	}
	for n := range 5000 {
		records = append(records, h.Numbered(9999-n, 1000))
	}
	for n := range 1000 {
		records = append(records, h.Numbered(20_000+n, 1001+n/3))
	}
	h.write(records, int64(len(records)), 0, 0)
	reversed := func(list []R) []R {
		list = slices.Clone(list)
		slices.Reverse(list)
		return list
	}
	for _, byIdentity := range []bool{false, true} {
		order := h.byTime
		if byIdentity {
			order = h.byIdentity
		}
		want := slices.SortedFunc(slices.Values(records), order)
		for _, limit := range []int{0, 1, 3001, 8500} {
			n := len(want)
			if limit > 0 {
				n = limit
			}
			if got := h.query(mds.Query{ByIdentity: byIdentity, Limit: limit}); !h.equal(got, want[:n]) {
				h.Errorf("by identity %v, limit %d: the %d records differ", byIdentity, limit, len(got))
			}
			if got := h.query(mds.Query{ByIdentity: byIdentity, Limit: limit, Descending: true}); !h.equal(got, reversed(want)[:n]) {
				h.Errorf("by identity %v, limit %d, descending: the %d records differ", byIdentity, limit, len(got))
			}
		}
		// From the large instant on, and back from it.
		large := h.Numbered(0, 1000)
		start := time.UnixMicro(h.schema.Micros(&large)).UTC()
		late := slices.DeleteFunc(slices.Clone(want), func(r R) bool { return h.schema.Micros(&r) < start.UnixMicro() })
		if got := h.query(mds.Query{Selection: mds.Selection{Start: start}, ByIdentity: byIdentity}); !h.equal(got, late) {
			h.Errorf("by identity %v, from the large instant on: the %d records differ from the %d written", byIdentity, len(got), len(late))
		}
		early := slices.DeleteFunc(slices.Clone(want), func(r R) bool { return h.schema.Micros(&r) > start.UnixMicro() })
		end := start.Add(time.Microsecond)
		if h.schema.Dated() {
			end = start.AddDate(0, 0, 1)
		}
		if got := h.query(mds.Query{Selection: mds.Selection{End: end}, ByIdentity: byIdentity, Descending: true}); !h.equal(got, reversed(early)) {
			h.Errorf("by identity %v, back from the large instant: the %d records differ from the %d written", byIdentity, len(got), len(early))
		}
	}
}

func (h *kindHarness[R]) testTenants() {
	acme, err := h.store.CreateTenant(h.ctx, "acme")
	if served(h.store) {
		h.Skip("its tenants are made elsewhere")
	}
	if err != nil {
		h.Fatal(err)
	}
	h.write(h.Extremes, int64(len(h.Extremes)), 0, 0)
	if got := h.collect(h.table.Query(h.ctx, acme, mds.Query{})); len(got) > 0 {
		h.Errorf("acme reads %s", h.texts(got))
	}
	if n, err := h.table.Delete(h.ctx, acme, mds.Selection{}); n != 0 || err != nil {
		h.Errorf("acme deleted %d, %v", n, err)
	}
	if got := h.query(mds.Query{}); len(got) != len(h.Extremes) {
		h.Errorf("%d records are left", len(got))
	}
}
