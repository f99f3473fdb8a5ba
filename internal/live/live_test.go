package live_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/live"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pass has time pass, which in a bubble of synctest takes none.
func pass(d time.Duration) { <-time.After(d) }

func bar(symbol string, n int, price float64) mds.Bar {
	return mds.Bar{Vendor: "v", Symbol: symbol, Timeframe: mds.Minute, TS: time.Unix(int64(1_700_000_000+60*n), 0).UTC(), Close: price}
}

func conditions[R mds.Record[R]](t testing.TB, sel mds.Selection) []mds.Condition[R] {
	t.Helper()
	schema := mds.SchemaOf[R]()
	c, err := schema.Conditions(sel)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// taken is what a subscriber took: closes, and gaps.
type taken struct {
	closes []string
	gaps   []live.Gap
	id     string
}

// take takes all that waits.
func take(t testing.TB, s *live.Subscription) (out taken) {
	t.Helper()
	for more := true; more; {
		var events []live.Event
		events, more = s.Take(nil, 1)
		for _, e := range events {
			out.id = e.ID
			if e.Gap != nil {
				out.gaps = append(out.gaps, *e.Gap)
			}
			out.closes = append(out.closes, closes(t, e.Data)...)
		}
	}
	return out
}

// closes are those of the bars of an event, or of lines.
func closes(t testing.TB, data []byte) (list []string) {
	t.Helper()
	for line := range bytes.Lines(data) {
		if bytes.HasPrefix(line, []byte("event: ")) {
			continue
		}
		_, rest, found := strings.Cut(string(line), `"close":`)
		value, _, _ := strings.Cut(rest, ",")
		if !found || !strings.HasSuffix(string(line), "}\n") {
			t.Fatalf("%q is no record", line)
		}
		list = append(list, value)
	}
	return list
}

// TestForms writes each record as it is stored: events named after the kind, or lines.
func TestForms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := live.New(live.Config{})
		defer h.Close()
		f := live.NewFeed[mds.Bar](h)
		events := h.Subscribe(mds.DefaultTenant(), live.Events, "", f.Pick(nil))
		lines := h.Subscribe(mds.DefaultTenant(), live.Lines, "", f.Pick(nil))
		f.Publish(mds.DefaultTenant(), []mds.Bar{bar(" msft", 0, 1.5), bar("AAPL", 0, 2)}, mds.Receipt{Written: 2})
		synctest.Wait()
		const one = `{"vendor":"v","symbol":"MSFT","timeframe":"1m","ts":"2023-11-14T22:13:20Z","open":null,"high":null,"low":null,"close":1.5,"volume":null,"vwap":null,"trade_count":null}`
		two := strings.NewReplacer("MSFT", "AAPL", "1.5", "2").Replace(one)
		for _, tt := range []struct {
			s    *live.Subscription
			want string
		}{
			{events, "event: bars\ndata: " + one + "\ndata: " + two + "\n"},
			{lines, one + "\n" + two + "\n"},
		} {
			got, more := tt.s.Take(nil, 1)
			if len(got) != 1 || more || string(got[0].Data) != tt.want || !strings.HasSuffix(got[0].ID, "-2") {
				t.Errorf("%+v, want %s", got, tt.want)
			}
			tt.s.Close()
		}
		if s := h.Stats(); s != (live.Stats{Encoded: 2, Sent: 4}) {
			t.Errorf("%+v", s)
		}
	})
}

// TestPicks hands each subscriber what it wants, of its tenant, once.
func TestPicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := live.New(live.Config{})
		defer h.Close()
		bars, news := live.NewFeed[mds.Bar](h), live.NewFeed[mds.News](h)
		other, err := mds.NewTenant("other")
		if err != nil {
			t.Fatal(err)
		}
		ours := mds.DefaultTenant()
		for _, tt := range []struct {
			name  string
			of    mds.Tenant
			picks []live.Pick
			want  string
		}{
			{"all", ours, []live.Pick{bars.Pick(nil)}, "1 2 3 4"},
			{"a symbol, however it is spelled", ours, []live.Pick{bars.Pick(conditions[mds.Bar](t, mds.Selection{Symbols: []string{"msft"}}))}, "1 3"},
			{"two", ours, []live.Pick{bars.Pick(conditions[mds.Bar](t, mds.Selection{Symbols: []string{"MSFT", "IBM"}}))}, "1 3 4"},
			{"a timeframe", ours, []live.Pick{bars.Pick(conditions[mds.Bar](t, mds.Selection{Timeframe: mds.Hour}))}, "3"},
			{"a symbol and a vendor that has none", ours, []live.Pick{bars.Pick(conditions[mds.Bar](t, mds.Selection{Symbols: []string{"MSFT"}, Vendor: "w"}))}, ""},
			{"another tenant", other, []live.Pick{bars.Pick(nil)}, "5"},
		} {
			s := h.Subscribe(tt.of, live.Events, "", tt.picks...)
			hourly := bar("MSFT", 0, 3)
			hourly.Timeframe = mds.Hour
			bars.Publish(ours, []mds.Bar{bar("MSFT", 0, 1), bar("AAPL", 0, 2), hourly, bar("ibm", 0, 4)}, mds.Receipt{})
			bars.Publish(other, []mds.Bar{bar("MSFT", 0, 5)}, mds.Receipt{})
			pass(time.Second)
			if got := strings.Join(take(t, s).closes, " "); got != tt.want {
				t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			}
			s.Close()
		}
		s := h.Subscribe(ours, live.Lines, "", news.Pick(conditions[mds.News](t, mds.Selection{Symbols: []string{"MSFT", "IBM"}})))
		defer s.Close()
		item := func(id string, symbols ...string) mds.News {
			return mds.News{Vendor: "v", ID: id, PublishedAt: time.Unix(1_700_000_000, 0).UTC(), Title: "t", Symbols: symbols}
		}
		news.Publish(ours, []mds.News{item("both", "IBM", "MSFT"), item("none", "AAPL"), item("one", "IBM")}, mds.Receipt{})
		pass(time.Second)
		events, _ := s.Take(nil, 1)
		if len(events) != 1 || bytes.Count(events[0].Data, []byte("\n")) != 2 || !bytes.Contains(events[0].Data, []byte(`"id":"both"`)) || !bytes.Contains(events[0].Data, []byte(`"id":"one"`)) {
			t.Errorf("%+v", events)
		}
	})
}

// TestPace hands over at once what comes after a pause, and gathers what follows.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := live.New(live.Config{})
		defer h.Close()
		f := live.NewFeed[mds.Bar](h)
		s := h.Subscribe(mds.DefaultTenant(), live.Events, "", f.Pick(nil))
		defer s.Close()
		pass(time.Minute)
		publish := func(n int) { f.Publish(mds.DefaultTenant(), []mds.Bar{bar("A", n, float64(n))}, mds.Receipt{}) }
		publish(0)
		synctest.Wait()
		if got := take(t, s).closes; !slices.Equal(got, []string{"0"}) {
			t.Errorf("%v at once", got)
		}
		publish(1)
		pass(24 * time.Millisecond)
		publish(2)
		if got := take(t, s).closes; got != nil {
			t.Errorf("%v after 24 ms", got)
		}
		pass(time.Millisecond)
		synctest.Wait()
		if events, _ := s.Take(nil, 1); len(events) != 1 || !slices.Equal(closes(t, events[0].Data), []string{"1", "2"}) {
			t.Errorf("%v after 25 ms", events)
		}
		publish(3)
		s.Flush()
		if got := take(t, s).closes; !slices.Equal(got, []string{"3"}) {
			t.Errorf("%v after a flush", got)
		}
		h.Close()
		s.Flush()
	})
}

// TestOverload has records come faster than they are encoded: the oldest are let go, and
// that is told.
func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := live.New(live.Config{Queue: 1000})
		defer h.Close()
		f := live.NewFeed[mds.Bar](h)
		s := h.Subscribe(mds.DefaultTenant(), live.Events, "", f.Pick(nil))
		defer s.Close()
		f.Publish(mds.DefaultTenant(), []mds.Bar{bar("A", 0, 0)}, mds.Receipt{})
		synctest.Wait() // it gathers now
		for i := range 50 {
			f.Publish(mds.DefaultTenant(), []mds.Bar{bar("A", i, float64(i))}, mds.Receipt{})
		}
		pass(time.Second)
		got := take(t, s)
		if len(got.gaps) != 1 || got.gaps[0].Reason != live.Overload || *got.gaps[0].AtMost != int64(51-len(got.closes)) || got.closes[len(got.closes)-1] != "49" || len(got.closes) > 10 {
			t.Errorf("%+v", got)
		}
		if s := h.Stats(); s.LostOverload != int64(51-len(got.closes)) || s.LostSlow != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestComingAndGoing has a subscriber come and go, beside others, while several publish: of
// what it did not hear in between it is told no fewer than it missed.
func TestComingAndGoing(t *testing.T) {
	h := live.New(live.Config{Pace: 100 * time.Microsecond})
	defer h.Close()
	f := live.NewFeed[mds.Bar](h)
	const publishers, each, most = 3, 100_000, 300
	var working sync.WaitGroup
	begin := make(chan struct{})
	for p := range publishers {
		working.Go(func() {
			<-begin
			var batch []mds.Bar
			for n := range each {
				batch = append(batch, bar(fmt.Sprint("S", p), n, float64(n*publishers+p)))
				if len(batch) == 500 { // which takes a while to be copied
					f.Publish(mds.DefaultTenant(), batch, mds.Receipt{Written: 500})
					batch = batch[:0]
				}
			}
		})
	}
	next := make([]int, publishers) // to be heard
	var missed int64                // at most, as it is told
	id := ""
	visit := func() {
		s := h.Subscribe(mds.DefaultTenant(), live.Lines, id, f.Pick(nil))
		defer s.Close()
		s.Flush()
		id = s.ID()
		got := take(t, s)
		for _, g := range got.gaps {
			missed += *g.AtMost
		}
		for _, c := range got.closes {
			n, err := strconv.Atoi(c)
			if err != nil {
				t.Fatal(err)
			}
			p := n % publishers
			missed -= int64(n/publishers - next[p])
			next[p] = n/publishers + 1
		}
		if got.id != "" {
			id = got.id
		}
	}
	first := h.Subscribe(mds.DefaultTenant(), live.Lines, "", f.Pick(nil))
	id = first.ID()
	close(begin)
	first.Close()
	for range most {
		visit()
	}
	working.Wait()
	visit()
	for _, n := range next {
		missed -= int64(each - n)
	}
	if missed < 0 { // of an event in the middle of a batch the whole batch counts
		t.Errorf("it missed %d more than it is told", -missed)
	}
}

// TestTotal has many subscribers that do not read, and want different things, take no more
// than they may together.
func TestTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := live.New(live.Config{Buffer: 100_000, Total: 300_000, Scarce: 1000})
		defer h.Close()
		f := live.NewFeed[mds.Bar](h)
		var subs []*live.Subscription
		for i := range 20 {
			subs = append(subs, h.Subscribe(mds.DefaultTenant(), live.Events, "", f.Pick(conditions[mds.Bar](t, mds.Selection{Symbols: []string{"A", fmt.Sprint("B", i)}}))))
		}
		most := int64(0)
		for i := range 3000 {
			f.Publish(mds.DefaultTenant(), []mds.Bar{bar("A", i, float64(i))}, mds.Receipt{})
			if i%10 == 0 {
				pass(50 * time.Millisecond)
				most = max(most, h.Stats().Bytes)
			}
		}
		if most > 310_000 || most < 200_000 {
			t.Errorf("%d bytes wait", most)
		}
		for _, s := range subs {
			s.Close()
		}
		if s := h.Stats(); s.Bytes != 0 || s.Subscribers != 0 || s.LostSlow == 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestModel has subscribers with filters come, read, be slow, go and come back, while
// batches of several tenants are committed: each record that one wants is told once, in
// order, or is among those it is told that it missed, at their place.
func TestModel(t *testing.T) {
	for range 300 {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { model(t, seed) })
		})
		if t.Failed() {
			return
		}
	}
}

// watcher is a subscriber of the model.
type watcher struct {
	*live.Subscription
	tenant int
	sel    mds.Selection
	wanted []string // closes that it is to be told
	next   int      // of them
	id     string
	unsure bool // it was told of an overload
}

// wants reports whether a watcher wants a bar.
func (w *watcher) wants(tenant int, b *mds.Bar) bool {
	return w.tenant == tenant && (w.sel.Vendor == "" || w.sel.Vendor == b.Vendor) &&
		(len(w.sel.Symbols) == 0 || slices.Contains(w.sel.Symbols, strings.ToUpper(b.Symbol)))
}

// hear checks what a watcher is told against what it is to be told.
func (w *watcher) hear(t *testing.T, events []live.Event) {
	for _, e := range events {
		w.id = e.ID
		if g := e.Gap; g != nil {
			switch {
			case g.Reason == live.Overload:
				w.unsure = true
			case g.Reason == live.Slow && g.Lost == *g.AtMost:
				w.next += int(g.Lost)
			default:
				t.Fatalf("a gap %+v", g)
			}
			continue
		}
		for _, c := range closes(t, e.Data) {
			for w.unsure && w.next < len(w.wanted) && w.wanted[w.next] != c {
				w.next++
			}
			if w.next >= len(w.wanted) || w.wanted[w.next] != c {
				t.Fatalf("it is told %s, number %d of %v", c, w.next, w.wanted)
			}
			w.next++
		}
	}
}

func model(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	cfg := live.Config{Buffer: 300 + r.IntN(20_000)}
	if r.IntN(4) == 0 {
		cfg.Queue = 2000 + r.IntN(5000)
	}
	h := live.New(cfg)
	defer h.Close()
	f := live.NewFeed[mds.Bar](h)
	tenants := []mds.Tenant{{ID: "1", Slug: "a"}, {ID: "2", Slug: "b"}}
	var watchers []*watcher
	join := func(w *watcher, last string) {
		form := live.Events
		if r.IntN(3) == 0 {
			form = live.Lines
		}
		w.Subscription = h.Subscribe(tenants[w.tenant], form, last, f.Pick(conditions[mds.Bar](t, w.sel)))
		watchers = append(watchers, w)
	}
	n := 0
	for range 200 {
		switch op := r.IntN(10); {
		case op == 0 && len(watchers) < 8:
			w := &watcher{tenant: r.IntN(2)}
			if r.IntN(2) == 0 {
				w.sel.Symbols = []string{"S0", fmt.Sprint("S", 1+r.IntN(4))}
			}
			if r.IntN(3) == 0 {
				w.sel.Vendor = "w"
			}
			join(w, "")
		case op == 1 && len(watchers) > 0:
			i := r.IntN(len(watchers))
			w := watchers[i]
			watchers = slices.Delete(watchers, i, i+1)
			back(t, r, w, join, func() {
				n++
				b := bar("S0", n, float64(n))
				b.Vendor = "w"
				tell(watchers, w.tenant, []mds.Bar{b})
				f.Publish(tenants[w.tenant], []mds.Bar{b}, mds.Receipt{Written: 1})
			})
			for _, other := range []string{"x-1", "-", w.id + "-1", "another-0"} {
				s := h.Subscribe(tenants[w.tenant], live.Events, other, f.Pick(nil))
				if events, _ := s.Take(nil, 1); len(events) != 1 || events[0].Gap == nil || events[0].Gap.Reason != live.Restarted || events[0].Gap.AtMost != nil {
					t.Fatalf("of %q it is told %+v", other, events)
				}
				s.Close()
			}
		case op < 6:
			batch, receipt := batchOf(r, &n)
			tenant := r.IntN(2)
			tell(watchers, tenant, batch)
			given := slices.Clone(batch)
			f.Publish(tenants[tenant], given, receipt)
			clear(given) // the memory is the writer's again
		case op < 8 && len(watchers) > 0:
			w := watchers[r.IntN(len(watchers))]
			events, _ := w.Take(nil, r.IntN(2000))
			w.hear(t, events)
		case op == 8 && len(watchers) > 0:
			w := watchers[r.IntN(len(watchers))]
			if id := w.ID(); w.id != "" {
				w.id = id
			}
		default:
			pass(time.Duration(r.IntN(40)) * time.Millisecond)
		}
	}
	pass(time.Second)
	for _, w := range watchers {
		for more := true; more; {
			var events []live.Event
			events, more = w.Take(nil, 1000)
			w.hear(t, events)
		}
		if w.next != len(w.wanted) && !w.unsure {
			t.Errorf("it was told %d of %d", w.next, len(w.wanted))
		}
		if !w.unsure { // it has all, also what it did not want
			s := h.Subscribe(tenants[w.tenant], live.Events, w.ID(), f.Pick(nil))
			if events, _ := s.Take(nil, 1); len(events) > 0 {
				t.Errorf("it is told %+v", events)
			}
			s.Close()
		}
		w.Close()
		w.Close()
	}
	if s := h.Stats(); s.Bytes != 0 || s.Subscribers != 0 {
		t.Errorf("%+v", s)
	}
}

// batchOf is a batch, in which a later record may replace one.
func batchOf(r *rand.Rand, n *int) (batch []mds.Bar, receipt mds.Receipt) {
	keys := make(map[string]bool)
	for range r.IntN(30) {
		b := bar("", 0, 0)
		b.Symbol = fmt.Sprintf("%c%d", "sS"[r.IntN(2)], r.IntN(5))
		b.Vendor = []string{"v", "w"}[r.IntN(2)]
		b.TS = b.TS.Add(time.Duration(r.IntN(20)) * time.Minute)
		*n++
		b.Close = float64(*n)
		if k := strings.ToUpper(b.Symbol) + b.Vendor + b.TS.String(); keys[k] {
			receipt.Superseded++
		} else {
			keys[k] = true
		}
		batch = append(batch, b)
	}
	receipt.Written = int64(len(batch)) - receipt.Superseded
	return batch, receipt
}

// tell has watchers want those of a batch that are not replaced in it.
func tell(watchers []*watcher, tenant int, batch []mds.Bar) {
	for i := range batch {
		b := &batch[i]
		replaced := slices.ContainsFunc(batch[i+1:], func(o mds.Bar) bool {
			return strings.EqualFold(o.Symbol, b.Symbol) && o.Vendor == b.Vendor && o.TS.Equal(b.TS)
		})
		for _, w := range watchers {
			if !replaced && w.wants(tenant, b) {
				w.wanted = append(w.wanted, fmt.Sprint(b.Close))
			}
		}
	}
}

// back has a watcher go and come back by the ID that it heard last: it is told that it
// missed as many as it may have missed, or nothing where it has missed none.
func back(t *testing.T, r *rand.Rand, w *watcher, join func(*watcher, string), publish func()) {
	w.Close()
	missed := len(w.wanted) - w.next
	for range r.IntN(3) {
		publish()
		missed++
	}
	if w.id == "" || w.unsure {
		return
	}
	again := &watcher{tenant: w.tenant, sel: w.sel}
	join(again, w.id)
	events, _ := again.Take(nil, 1)
	switch {
	case missed == 0 && len(events) == 0:
	case len(events) == 1 && events[0].Gap != nil && events[0].Gap.Reason == live.Away && *events[0].Gap.AtMost >= int64(missed):
	default:
		t.Fatalf("%d are missed, and it is told %+v", missed, events)
	}
	if len(events) > 0 {
		again.id = events[0].ID
	}
}

// tick is a kind whose symbols somebody looks at.
type tick struct {
	Symbol string
	TS     time.Time
}

// looked is called when a tick's symbol is looked at.
var looked func()

func (tick) Schema() mds.Schema[tick] {
	return mds.Schema[tick]{
		Kind: "ticks", Noun: "tick",
		Columns: []mds.Column[tick]{
			{Name: "symbol", Role: mds.Identity, Text: func(t *tick) *string {
				if looked != nil {
					looked()
				}
				return &t.Symbol
			}},
			{Name: "ts", Role: mds.Time, Time: func(t *tick) *time.Time { return &t.TS }},
		},
		Validate: func(*tick) error { return nil }, Normalize: func(*tick) {},
	}
}

// TestComesMeanwhile has a subscriber come while a batch is looked through for who was there
// before: it hears of it, since its ID says that it does.
func TestComesMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := live.New(live.Config{})
		defer h.Close()
		f := live.NewFeed[tick](h)
		pick := func(symbol string) live.Pick {
			return f.Pick(conditions[tick](t, mds.Selection{Symbols: []string{symbol}}))
		}
		before := h.Subscribe(mds.DefaultTenant(), live.Lines, "", pick("A"))
		defer before.Close()
		var meanwhile *live.Subscription
		newcomer := pick("B")
		looked = func() {
			looked = nil
			meanwhile = h.Subscribe(mds.DefaultTenant(), live.Lines, "", newcomer)
		}
		f.Publish(mds.DefaultTenant(), []tick{{"A", time.Unix(0, 0)}, {"B", time.Unix(0, 0)}}, mds.Receipt{Written: 2})
		synctest.Wait()
		defer meanwhile.Close()
		for s, want := range map[*live.Subscription]string{before: `{"symbol":"A"`, meanwhile: `{"symbol":"B"`} {
			if events, _ := s.Take(nil, 1); len(events) != 1 || !strings.HasPrefix(string(events[0].Data), want) || !strings.HasSuffix(events[0].ID, "-2") {
				t.Errorf("it is told %+v, want %s", events, want)
			}
		}
	})
}
