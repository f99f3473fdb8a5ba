package storetest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

func testWindowAndOrder(_ *testing.T, h *harness) {
	daily := bar("A", time.Date(2024, 3, 5, 0, 0, 0, 0, time.UTC), 8)
	daily.Timeframe = mds.Day
	other := bar("A", at(9, 1), 9)
	other.Vendor = "zeta"
	b := []mds.Bar{bar("B", at(9, 0), 1), bar("A", at(9, 1), 2), bar("B", at(9, 1), 3), bar("A", at(9, 2), 4), other, daily}
	h.write(b...)

	h.want(h.all(), b[5], b[0], b[1], b[2], b[4], b[3])
	h.want(h.query(mds.Query{Descending: true}), b[3], b[4], b[2], b[1], b[0], b[5])
	pick := func(s mds.Selection) []mds.Bar { return h.query(mds.Query{Selection: s}) }
	h.want(pick(mds.Selection{Start: at(9, 1)}), b[1], b[2], b[4], b[3])
	h.want(pick(mds.Selection{Start: at(9, 0), End: at(9, 1)}), b[0])
	h.want(pick(mds.Selection{Start: at(9, 1), End: at(9, 1)}))
	h.want(pick(mds.Selection{Symbols: []string{"b"}}), b[0], b[2])
	h.want(pick(mds.Selection{Symbols: []string{"A", "B"}, Vendor: "test", Timeframe: mds.Minute}), b[0], b[1], b[2], b[3])
	h.want(pick(mds.Selection{Vendor: "zeta"}), b[4])
	h.want(pick(mds.Selection{Timeframe: mds.Day}), b[5])
	h.want(pick(mds.Selection{Symbols: []string{"NONE"}}))
	h.want(h.query(mds.Query{Limit: 3}), b[5], b[0], b[1])
	h.want(h.query(mds.Query{Limit: 2, Descending: true}), b[3], b[4])
}

// testWindowInAZone: the bounds of a window are instants, and for calendar bars
// the dates that they show where they are.
func testWindowInAZone(t *testing.T, h *harness) {
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	daily := func(day int) mds.Bar {
		b := bar("A", time.Date(2020, 11, day, 0, 0, 0, 0, time.UTC), float64(day))
		b.Timeframe = mds.Day
		return b
	}
	evening := bar("A", time.Date(2020, 11, 28, 0, 59, 0, 0, time.UTC), 1) // 19:59 on the 27th in New York
	early := bar("A", time.Date(2020, 11, 27, 4, 59, 0, 0, time.UTC), 2)   // 23:59 on the 26th
	h.write(daily(26), daily(27), daily(28), evening, early)
	friday := mds.Selection{
		Start: time.Date(2020, 11, 27, 0, 0, 0, 0, newYork),
		End:   time.Date(2020, 11, 28, 0, 0, 0, 0, newYork),
	}
	h.want(h.query(mds.Query{Selection: friday}), daily(27), evening)
	friday.Symbols = []string{"A"}
	h.want(h.query(mds.Query{Selection: friday}), daily(27), evening)
	friday.Timeframe = mds.Day
	h.want(h.query(mds.Query{Selection: friday}), daily(27))
	later := mds.Selection{Start: time.Date(2020, 11, 27, 9, 30, 0, 0, newYork)}
	h.want(h.query(mds.Query{Selection: later}), daily(28), evening)
	for _, years := range []int{12_000, 294_250, 300_000, 100_000_000} {
		far := mds.Selection{
			Start: time.Date(-years, 1, 1, 0, 0, 0, 0, time.UTC),
			End:   time.Date(years, 1, 1, 0, 0, 0, 0, time.UTC),
		}
		h.want(h.query(mds.Query{Selection: far}), daily(26), daily(27), early, daily(28), evening)
	}
	later.Start, later.End = time.Time{}, later.Start
	h.want(h.query(mds.Query{Selection: later}), daily(26), daily(27), early)
	for _, wrong := range []mds.Timeframe{"1min", "7m"} {
		for _, err := range h.bars.Query(h.ctx, mds.DefaultTenant(), mds.Query{Selection: mds.Selection{Timeframe: wrong}}) {
			if !errors.Is(err, mds.ErrTimeframe) {
				t.Errorf("timeframe %s: %v", wrong, err)
			}
		}
	}
}

// testDatesInAZone: fundamentals are labelled by dates, which a window in any
// zone means as it shows them.
func testDatesInAZone(t *testing.T, h *harness) {
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	table := store.Fundamentals(h.store)
	var batch []mds.Fundamentals
	for day := 30; day <= 31; day++ {
		batch = append(batch, mds.Fundamentals{Vendor: "x", Symbol: "A", Period: mds.FiscalYear, AsOf: mds.Date{Year: 2023, Month: 1, Day: day}, EPS: mds.Some(float64(day))})
	}
	if _, err := table.WriteBatch(h.ctx, mds.DefaultTenant(), batch); err != nil {
		t.Fatal(err)
	}
	count := func(sel mds.Selection) int64 {
		t.Helper()
		n, err := table.Count(h.ctx, mds.DefaultTenant(), sel)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	midnight := func(day int) time.Time { return time.Date(2023, 1, day, 0, 0, 0, 0, newYork) }
	if n := count(mds.Selection{Start: midnight(30), End: midnight(31)}); n != 1 {
		t.Errorf("the 30th in New York has %d records", n)
	}
	if n := count(mds.Selection{Start: midnight(31)}); n != 1 {
		t.Errorf("from the 31st in New York on there are %d records", n)
	}
	if n := count(mds.Selection{Start: midnight(30).Add(time.Hour)}); n != 1 {
		t.Errorf("after the 30th began there are %d records", n)
	}
}

// testPagesAndLimits reads more rows than a backend is likely to fetch at
// once, three of them at every instant.
func testPagesAndLimits(t *testing.T, h *harness) {
	const instants = 7000
	var want []mds.Bar
	for i := range instants {
		for _, symbol := range []string{"C", "A", "B"} {
			want = append(want, bar(symbol, at(0, 0).Add(time.Duration(i)*time.Second), float64(i)))
		}
	}
	h.write(want...)
	for i := 0; i < len(want); i += 3 {
		want[i], want[i+1], want[i+2] = want[i+1], want[i+2], want[i]
	}
	for _, limit := range []int{0, 1, 2, 3, 4, 2047, 2048, 2049, 10_239, 10_240, 10_241, 3*instants - 1, 3 * instants, 99_999} {
		n := len(want)
		if limit > 0 {
			n = min(n, limit)
		}
		got := h.query(mds.Query{Limit: limit})
		if !slices.Equal(got, want[:n]) {
			t.Errorf("limit %d: the %d bars read differ from the %d written", limit, len(got), n)
		}
		reversed := slices.Clone(want)
		slices.Reverse(reversed)
		if got := h.query(mds.Query{Limit: limit, Descending: true}); !slices.Equal(got, reversed[:n]) {
			t.Errorf("limit %d, descending: the bars read differ", limit)
		}
	}
	unordered := h.query(mds.Query{Unordered: true})
	slices.SortFunc(unordered, func(a, b mds.Bar) int {
		return cmp.Or(a.TS.Compare(b.TS), cmp.Compare(a.Symbol, b.Symbol))
	})
	if !slices.Equal(unordered, want) {
		t.Errorf("unordered: the %d bars read differ", len(unordered))
	}
	n, err := h.bars.Count(h.ctx, mds.DefaultTenant(), mds.Selection{Symbols: []string{"A"}})
	if err != nil || n != instants {
		t.Errorf("count %d, %v; want %d", n, err, instants)
	}
}

func testStopReadingEarly(t *testing.T, h *harness) {
	var bars []mds.Bar
	for i := range 10_000 {
		bars = append(bars, bar("A", at(0, 0).Add(time.Duration(i)*time.Second), 1))
	}
	h.write(bars...)
	for range 20 { // more often than a pool has connections
		for range h.bars.Query(h.ctx, mds.DefaultTenant(), mds.Query{}) {
			break
		}
	}
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	n := 0
	var last error
	for _, err := range h.bars.Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		n++
		last = err
		cancel()
	}
	if n == len(bars) || !errors.Is(last, context.Canceled) {
		t.Errorf("a query cancelled after its first bar gave %d and ended with %v", n, last)
	}
	h.wantReceipt(h.write(bar("A", at(0, 0), 2)), 1, 0, 0)
	// A context that ends as the reader stops is nobody's business any more.
	again, stop := context.WithCancel(h.ctx)
	defer stop()
	for range h.bars.Query(again, mds.DefaultTenant(), mds.Query{}) {
		stop()
		break
	}
}

// testCloseWhileReading: a query under way goes on, and the store can be opened
// again when it has ended.
func testCloseWhileReading(t *testing.T, h *harness) {
	var bars []mds.Bar
	for i := range 10_000 {
		bars = append(bars, bar("A", at(0, 0).Add(time.Duration(i)*time.Second), 1))
	}
	h.write(bars...)
	n := 0
	for _, err := range h.bars.Query(h.ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			if err := h.store.Close(); err != nil {
				t.Error(err)
			}
		}
		n++
	}
	if n != len(bars) {
		t.Errorf("the query gave %d of %d bars", n, len(bars))
	}
	for _, err := range h.bars.Query(h.ctx, mds.DefaultTenant(), mds.Query{}) {
		if err == nil || mds.Retryable(err) {
			t.Errorf("a query of a closed store: %v", err)
		}
	}
	h.open()
	if got := len(h.all()); got != len(bars) {
		t.Errorf("%d bars after opening again", got)
	}
}

func testLatest(t *testing.T, h *harness) {
	daily := bar("A", time.Date(2024, 3, 4, 0, 0, 0, 0, time.UTC), 5)
	daily.Timeframe = mds.Day
	h.write(bar("B", at(9, 0), 1), bar("A", at(9, 1), 2), bar("A", at(9, 2), 3), daily)
	latest := func(sel mds.Selection) []mds.Bar {
		bars, err := h.bars.Latest(h.ctx, mds.DefaultTenant(), sel)
		if err != nil {
			t.Fatal(err)
		}
		return bars
	}
	h.want(latest(mds.Selection{}), daily, bar("A", at(9, 2), 3), bar("B", at(9, 0), 1))
	h.want(latest(mds.Selection{Symbols: []string{"A"}, Timeframe: mds.Minute}), bar("A", at(9, 2), 3))
	h.want(latest(mds.Selection{End: at(9, 2), Timeframe: mds.Minute}), bar("A", at(9, 1), 2), bar("B", at(9, 0), 1))
	h.write(bar("B", at(8, 0), 9)) // late data is not the latest
	h.want(latest(mds.Selection{Symbols: []string{"B"}}), bar("B", at(9, 0), 1))
	if _, err := h.bars.Delete(h.ctx, mds.DefaultTenant(), mds.Selection{Symbols: []string{"B"}, Start: at(9, 0)}); err != nil {
		t.Fatal(err)
	}
	h.want(latest(mds.Selection{Symbols: []string{"B"}}), bar("B", at(8, 0), 9))
	h.want(latest(mds.Selection{Symbols: []string{"NONE"}}))
}

func testSeries(t *testing.T, h *harness) {
	h.write(bar("B", at(9, 0), 1), bar("A", at(9, 1), 2), bar("A", at(9, 3), 3))
	series := func(sel mds.Selection) []mds.Series[mds.Bar] {
		list, err := h.bars.Series(h.ctx, mds.DefaultTenant(), sel)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	identity := func(symbol string) mds.Bar {
		return mds.Bar{Vendor: "test", Symbol: symbol, Timeframe: mds.Minute}
	}
	a := mds.Series[mds.Bar]{Identity: identity("A"), Rows: 2, First: at(9, 1), Last: at(9, 3)}
	b := mds.Series[mds.Bar]{Identity: identity("B"), Rows: 1, First: at(9, 0), Last: at(9, 0)}
	if got := series(mds.Selection{}); !slices.Equal(got, []mds.Series[mds.Bar]{a, b}) {
		t.Errorf("series %+v", got)
	}
	a.Rows, a.Last = 1, at(9, 1)
	if got := series(mds.Selection{Start: at(9, 1), End: at(9, 3)}); !slices.Equal(got, []mds.Series[mds.Bar]{a}) {
		t.Errorf("series of a window: %+v", got)
	}
}

func testDelete(t *testing.T, h *harness) {
	b := []mds.Bar{bar("A", at(9, 0), 1), bar("A", at(9, 1), 2), bar("A", at(9, 2), 3), bar("B", at(9, 1), 4)}
	h.write(b...)
	remove := func(want int64, sel mds.Selection) {
		t.Helper()
		n, err := h.bars.Delete(h.ctx, mds.DefaultTenant(), sel)
		if err != nil || n != want {
			t.Errorf("deleted %d, %v; want %d", n, err, want)
		}
	}
	remove(0, mds.Selection{Symbols: []string{"NONE"}})
	remove(1, mds.Selection{Symbols: []string{"A"}, Start: at(9, 1), End: at(9, 2)})
	h.want(h.all(), b[0], b[3], b[2])
	h.wantReceipt(h.write(b...), 1, 3, 0)
	remove(1, mds.Selection{Symbols: []string{"B"}})
	h.want(h.all(), b[0], b[1], b[2])
	h.reopen()
	h.wantReceipt(h.write(b[3]), 1, 0, 0) // its series is known, its row is new
	remove(4, mds.Selection{})
	h.want(h.all())
	h.wantReceipt(h.write(b...), 4, 0, 0)
}

func testInfo(t *testing.T, h *harness) {
	info := func() mds.KindInfo {
		info, err := h.bars.Info(h.ctx, mds.DefaultTenant())
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	if got := info(); got != (mds.KindInfo{Kind: "bars"}) {
		t.Errorf("an empty store says %+v", got)
	}
	h.write(bar("B", at(9, 0), 1), bar("A", at(9, 1), 2), bar("A", at(9, 3), 3))
	got := info()
	if got.Rows != 3 || got.Series != 2 || !got.First.Equal(at(9, 0)) || !got.Last.Equal(at(9, 3)) {
		t.Errorf("info %+v", got)
	}
	about, err := h.store.Info(h.ctx, mds.DefaultTenant())
	if err != nil || about.Tenant != "default" || about.TenantID != mds.DefaultTenant().ID || about.SchemaVersion < 1 || about.Bytes <= 0 || about.Engine == "" {
		t.Errorf("info %+v, %v", about, err)
	}
	version, err := h.store.SchemaVersion(h.ctx, mds.DefaultTenant())
	if err != nil || version != about.SchemaVersion {
		t.Errorf("schema version %d, %v", version, err)
	}
	if err := h.store.Ping(h.ctx, mds.DefaultTenant()); err != nil {
		t.Error(err)
	}
}
