package arrow_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	arrowgo "github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/codec/arrow"
)

// TestBadRows costs each bad row that row, says of it what NDJSON says of the same
// row, and keeps its neighbours.
func TestBadRows(t *testing.T) {
	data := stream(t,
		column{"symbol", utf8, `["A","B","","D","E","F"]`},
		column{"timeframe", utf8, `["1m","7m","1m","1m","1m","1m"]`},
		column{"ts", micros, `["2024-03-15T14:30:00Z","2024-03-15T14:30:00Z","2024-03-15T14:30:00Z",null,"2024-03-15T14:30:00Z","2024-03-15T14:30:00Z"]`},
		column{"close", float64s, `[1,2,3,4,null,6]`},
		column{"volume", float64s, `[1,2,-3,4,5,6]`},
		column{"note", utf8, `["x","x","x","x","x","x"]`},
	)
	rows := []string{
		`{"symbol":"A","timeframe":"1m","ts":"2024-03-15T14:30:00Z","close":1,"volume":1}`,
		`{"symbol":"B","timeframe":"7m","ts":"2024-03-15T14:30:00Z","close":2,"volume":2}`,
		`{"symbol":"","timeframe":"1m","ts":"2024-03-15T14:30:00Z","close":3,"volume":-3}`,
		`{"symbol":"D","timeframe":"1m","ts":null,"close":4,"volume":4}`,
		`{"symbol":"E","timeframe":"1m","ts":"2024-03-15T14:30:00Z","close":null,"volume":5}`,
		`{"symbol":"F","timeframe":"1m","ts":"2024-03-15T14:30:00Z","close":6,"volume":6}`,
	}
	var want []*codec.RowError
	var records []mds.Bar
	lines, err := codec.NewNDJSON[mds.Bar](strings.NewReader(strings.Join(rows, "\n")), codec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range rows {
		var bar mds.Bar
		var bad *codec.RowError
		if err := lines.Next(&bar); errors.As(err, &bad) {
			want = append(want, bad)
		} else if err != nil {
			t.Fatal(err)
		} else {
			records = append(records, bar)
		}
	}
	d, err := arrow.NewReader[mds.Bar](bytes.NewReader(data), arrow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, rejected, err := readAll(d)
	if err != nil || len(records) != 2 || d.Rows() != 6 {
		t.Fatal(records, d.Rows(), err)
	}
	same(t, got, records)
	same(t, rejected, want)
	same(t, d.Ignored(), []string{"note"})
	if want[1].Reason != "symbol: is missing; volume: -3 is negative" || want[1].Field != "symbol,volume" {
		t.Errorf("NDJSON says %+v", want[1])
	}
}

// TestRaw shortens what a row may hold of any length.
func TestRaw(t *testing.T) {
	data := stream(t,
		column{"vendor", utf8, `["x"]`}, column{"published_at", micros, `["2020-03-05T23:02:41Z"]`}, column{"title", utf8, `[null]`},
		column{"summary", utf8, `["` + strings.Repeat("é", 100) + `"]`},
		column{"symbols", arrowgo.ListOf(utf8), `[["1","2","3","4","5","6","7","8","9"]]`},
		column{"sentiment", arrowgo.PrimitiveTypes.Float32, `[0.5]`},
	)
	_, rejected, err := read[mds.News](bytes.NewReader(data), arrow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, rejected, []*codec.RowError{{
		Line: 1, Field: "title", Reason: "title: is missing",
		Raw: `{"vendor":"x","published_at":"2020-03-05T23:02:41Z","title":null,"symbols":["1","2","3","4","5","6","7","8"],"summary":"` +
			strings.Repeat("é", 20) + `…","sentiment":0.5}`,
	}})
}

// TestSetup refuses what cannot become records before any row.
func TestSetup(t *testing.T) {
	without := func(columns []column, name string) []column {
		return slices.DeleteFunc(slices.Clone(columns), func(c column) bool { return c.name == name })
	}
	for name, tt := range map[string]struct {
		columns []column
		opt     arrow.Options
		want    string
	}{
		"no symbol":       {columns: without(bar(), "symbol"), want: `no column holds the symbol: give one with --symbol, or map one of "timeframe", "ts", "close" with --columns symbol=NAME`},
		"no close":        {columns: with(without(bar(), "close"), column{"open", float64s, `[1]`}), want: `no column holds the close (last price): map one of "symbol", "timeframe", "ts", "open" with --columns close=NAME`},
		"nothing":         {columns: []column{{"x", utf8, `["a"]`}}, want: `no usable columns: the stream has "x"; map some with --columns ts=NAME,…`},
		"two of a name":   {columns: with(bar(), column{"Close", float64s, `[2]`}), want: `the file has two columns "Close"; pick one by its number, such as --columns close=#4`},
		"no such column":  {columns: bar(), opt: arrow.Options{Options: codec.Options{Columns: map[string]string{"open": "eröffnung"}}}, want: `--columns open=eröffnung: the file has no column "eröffnung"; it has "symbol", "timeframe", "ts", "close"`},
		"given twice":     {columns: bar(), opt: arrow.Options{Options: codec.Options{Fixed: map[string]string{"symbol": "A"}}}, want: `the file's column "symbol" gives the symbol already: give no other, or leave the column out with --columns symbol=`},
		"no header":       {columns: bar(), opt: arrow.Options{Options: codec.Options{NoHeader: true}}, want: "--no-header is for CSV files; a typed stream names its columns"},
		"a negative size": {columns: bar(), opt: arrow.Options{MaxBytes: -1}, want: "MaxBytes is -1; use a positive number, or 0 for the default"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := arrow.NewReader[mds.Bar](bytes.NewReader(stream(t, tt.columns...)), tt.opt)
			if setup := (*codec.SetupError)(nil); !errors.As(err, &setup) || err.Error() != tt.want {
				t.Errorf("the error is\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
}

// TestColumns finds columns as the header of a CSV file does.
func TestColumns(t *testing.T) {
	for name, tt := range map[string]struct {
		columns []column
		opt     codec.Options
	}{
		"aliases":                 {columns: []column{{"Ticker", utf8, `["msft"]`}, {"Bar Size", utf8, `["1 min"]`}, {"Time-UTC", micros, `["2024-03-15T14:30:00Z"]`}, {"C", float64s, `[1]`}}},
		"mapped":                  {columns: []column{{"a", utf8, `["msft"]`}, {"b", utf8, `["1m"]`}, {"c", micros, `["2024-03-15T14:30:00Z"]`}, {"d", float64s, `[1]`}}, opt: codec.Options{Columns: map[string]string{"symbol": "A", "timeframe": "#2", "ts": "c", "close": "d"}}},
		"fixed":                   {columns: []column{{"ts", micros, `["2024-03-15T14:30:00Z"]`}, {"close", float64s, `[1]`}}, opt: codec.Options{Fixed: map[string]string{"symbol": "msft", "timeframe": "1m"}}},
		"a fixed time":            {columns: []column{{"symbol", utf8, `["msft"]`}, {"close", float64s, `[1]`}}, opt: codec.Options{Fixed: map[string]string{"ts": "2024-03-15T14:30Z", "timeframe": "1m"}}},
		"a frame's index":         {columns: []column{{"symbol", utf8, `["msft"]`}, {"timeframe", utf8, `["1m"]`}, {"close", float64s, `[1]`}, {"__index_level_0__", micros, `["2024-03-15T14:30:00Z"]`}}},
		"a date":                  {columns: []column{{"symbol", utf8, `["msft"]`}, {"timeframe", utf8, `["1m"]`}, {"close", float64s, `[1]`}, {"Date", micros, `["2024-03-15T14:30:00Z"]`}}},
		"a date and clock":        {columns: []column{{"symbol", utf8, `["msft"]`}, {"timeframe", utf8, `["1m"]`}, {"close", float64s, `[1]`}, {"Date", arrowgo.FixedWidthTypes.Date32, `["2024-03-15"]`}, {"Time", arrowgo.FixedWidthTypes.Time64us, `["10:30:00"]`}}, opt: codec.Options{Zone: newYork(t)}},
		"date and clock in words": {columns: []column{{"symbol", utf8, `["msft"]`}, {"timeframe", utf8, `["1m"]`}, {"close", float64s, `[1]`}, {"Date", utf8, `["3/15/2024"]`}, {"Time", arrowgo.FixedWidthTypes.Time32s, `["10:30:00"]`}}, opt: codec.Options{Zone: newYork(t)}},
		"end labels":              {columns: with(bar(), column{"ts", micros, `["2024-03-15T14:31:00Z"]`}), opt: codec.Options{Label: codec.LabelEnd}},
		"a wall clock":            {columns: with(bar(), column{"ts", timestamps(arrowgo.Second, ""), `["2024-03-15T10:30:00"]`}), opt: codec.Options{Zone: newYork(t)}},
	} {
		t.Run(name, func(t *testing.T) {
			bars, rejected, err := read[mds.Bar](bytes.NewReader(stream(t, tt.columns...)), arrow.Options{Options: tt.opt})
			if err != nil || len(rejected) > 0 {
				t.Fatal(err, rejected)
			}
			same(t, bars, []mds.Bar{{Vendor: "local", Symbol: "MSFT", Timeframe: "1m", TS: time.Date(2024, 3, 15, 14, 30, 0, 0, time.UTC), Close: 1}})
		})
	}
}

// TestWallClocks reads clocks of a zone across a change, and needs the zone.
func TestWallClocks(t *testing.T) {
	columns := []column{
		{"symbol", utf8, `["A","A","A","A"]`}, {"timeframe", utf8, `["1m","1m","1m","1m"]`}, {"close", float64s, `[1,1,1,1]`},
		{"ts", timestamps(arrowgo.Second, ""), `["2024-03-08T09:30:00","2024-03-10T02:30:00","2024-03-11T09:30:00","2024-11-03T01:30:00"]`},
	}
	d, err := arrow.NewReader[mds.Bar](bytes.NewReader(stream(t, columns...)), arrow.Options{Options: codec.Options{Zone: newYork(t)}})
	if err != nil {
		t.Fatal(err)
	}
	bars, rejected, err := readAll(d)
	if err != nil || len(bars) != 3 || len(rejected) != 1 {
		t.Fatal(bars, rejected, err)
	}
	for i, want := range []string{"2024-03-08T14:30:00Z", "2024-03-11T13:30:00Z", "2024-11-03T05:30:00Z"} {
		if got := bars[i].TS.Format(time.RFC3339); got != want {
			t.Errorf("bar %d is of %s, not %s", i, got, want)
		}
	}
	if want := "ts: 2024-03-10 02:30:00 does not exist in America/New_York, whose clocks skipped it"; rejected[0].Reason != want {
		t.Errorf("the reason is %q, not %q", rejected[0].Reason, want)
	}
	if n := d.Warnings()["a local time that occurred twice was read as the first"]; n != 1 {
		t.Errorf("warnings are %v", d.Warnings())
	}

	_, _, err = read[mds.Bar](bytes.NewReader(stream(t, columns...)), arrow.Options{})
	var setup *codec.SetupError
	if want := `line 1: ts: "2024-03-08T09:30:00" has no time zone; name the file's zone with --tz, such as --tz America/New_York or --tz UTC`; !errors.As(err, &setup) || err.Error() != want {
		t.Errorf("the error is\n%v\nwant\n%s", err, want)
	}
}

// TestWarnings counts what is odd about rows that became records.
func TestWarnings(t *testing.T) {
	d, err := arrow.NewReader[mds.OptionSnap](bytes.NewReader(stream(t,
		column{"symbol", utf8, `["SPX","SPX","SPX"]`}, column{"expiry", arrowgo.FixedWidthTypes.Date32, `["2016-06-17","2016-06-17","2016-06-17"]`},
		column{"right", utf8, `["call","put","C"]`}, column{"strike", float64s, `[650,650,650]`},
		column{"ts", timestamps(arrowgo.Nanosecond, "UTC"), `["2014-12-15T21:00:00Z","2014-12-15T21:00:00Z","2014-12-15T21:00:00.000000001Z"]`},
		column{"bid", float64s, `[2,null,1]`}, column{"ask", float64s, `[1,null,1]`},
	)), arrow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	options, _, err := readAll(d)
	if err != nil || len(options) != 3 {
		t.Fatal(options, err)
	}
	for _, warning := range []string{"the bid is above the ask", "without any value", "a time finer than microseconds was cut"} {
		if d.Warnings()[warning] != 1 {
			t.Errorf("%q is not counted once: %v", warning, d.Warnings())
		}
	}
	if len(d.Warnings()) != 3 {
		t.Errorf("warnings are %v", d.Warnings())
	}

	filings, err := arrow.NewReader[mds.Fundamentals](bytes.NewReader(stream(t,
		with(fundamental(), column{"asof", timestamps(arrowgo.Second, ""), `["2023-01-31T12:00:00"]`})...)), arrow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := readAll(filings); err != nil || filings.Warnings()["the time of day was cut from asof, which is a date"] != 1 {
		t.Errorf("%v, warnings are %v", err, filings.Warnings())
	}
}

// TestUsedAgain writes over records whatever they held.
func TestUsedAgain(t *testing.T) {
	d, err := arrow.NewReader[mds.Bar](bytes.NewReader(stream(t, with(bar(), column{"volume", float64s, `[null]`})...)), arrow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	into := benchBars(1)
	into[0].Vendor = "other"
	if n, _, err := d.Next(into); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	same(t, into, []mds.Bar{{Vendor: "local", Symbol: "MSFT", Timeframe: "1m", TS: time.Date(2024, 3, 15, 14, 30, 0, 0, time.UTC), Close: 1}})
}

// TestTextsStay reads batches into the same memory: texts of the ones before stay.
func TestTextsStay(t *testing.T) {
	at := time.Unix(0, 0).UTC()
	var news []mds.News
	var filings []mds.Fundamentals
	for i := range 20 {
		name := string(rune('A' + i))
		news = append(news, mds.News{Vendor: "v", ID: name, PublishedAt: at, Title: "title " + name, Symbols: []string{"S" + name, "T" + name}, URL: name})
		filings = append(filings, mds.Fundamentals{Vendor: "v", Symbol: name, Period: "FY", AsOf: mds.DateOf(at), FiledAt: at, Form: "f" + name, Extra: map[string]float64{"x" + name: 1}})
	}
	for _, opt := range []arrow.WriterOptions{{BatchRows: 1}, {BatchRows: 1, Dictionaries: true}, {BatchRows: 1, Compression: arrow.Zstd}} {
		gotNews, _, err := read[mds.News](bytes.NewReader(write(t, news, opt)), arrow.Options{})
		if err != nil {
			t.Fatal(err)
		}
		same(t, gotNews, news)
		gotFilings, _, err := read[mds.Fundamentals](bytes.NewReader(write(t, filings, opt)), arrow.Options{})
		if err != nil {
			t.Fatal(err)
		}
		same(t, gotFilings, filings)
	}
}

// TestNotAStream gives what is no Arrow stream one sentence.
func TestNotAStream(t *testing.T) {
	var file bytes.Buffer
	schema := arrow.Schema[mds.Bar](false)
	w, err := ipc.NewFileWriter(&file, ipc.WithSchema(schema))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	empty := write[mds.Bar](t, nil, arrow.WriterOptions{})
	batch := newEndless(t, benchBars(1), arrow.WriterOptions{}).batches
	for name, tt := range map[string]struct{ data, want string }{
		"empty":       {"", "it is empty: an Arrow stream begins with its schema"},
		"a file":      {file.String(), "it is an Arrow file (Feather), not an Arrow stream; write it as a stream, such as with pyarrow.ipc.new_stream or polars' write_ipc_stream"},
		"Parquet":     {"PAR1\x15\x04\x15\x10", "it is not an Arrow stream: it is a Parquet file"},
		"JSON":        {`{"symbol":"A"}`, "it is not an Arrow stream: it looks like JSON"},
		"a few bytes": {"abc", `it is not an Arrow stream: it begins with "abc"`},
		"CSV":         {"symbol,ts,close\n", `it is not an Arrow stream: it begins with "symbol,t"`},
		"gzip":        {"\x1f\x8b\x08\x00\x00\x00\x00\x00", "it is not an Arrow stream: it is compressed as a whole"},
		"zeros":       {strings.Repeat("\x00", 100), `it is not an Arrow stream: it begins with "\x00\x00\x00\x00"`},
		"cut early":   {string(empty[:100]), "it is not an Arrow stream: the stream ends within a message: it was cut; send it again"},
		"no schema":   {string(batch), "it does not begin with a schema, as an Arrow stream should"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := arrow.NewReader[mds.Bar](strings.NewReader(tt.data), arrow.Options{})
			if header := (*codec.HeaderError)(nil); !errors.As(err, &header) || err.Error() != tt.want {
				t.Errorf("the error is\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
}

// TestCut reads what comes before the place where a stream was cut.
func TestCut(t *testing.T) {
	data := write(t, benchBars(30), arrow.WriterOptions{BatchRows: 10})
	bars, _, err := read[mds.Bar](bytes.NewReader(data[:len(data)-20]), arrow.Options{})
	want := "after row 20: the stream ends within a message: it was cut; send it again"
	if stream := (*arrow.StreamError)(nil); len(bars) != 20 || !errors.As(err, &stream) || err.Error() != want {
		t.Errorf("%d bars, %v; want %s", len(bars), err, want)
	}

	t.Run("after a batch", func(t *testing.T) { // as the format allows
		d, err := arrow.NewReader[mds.Bar](bytes.NewReader(data[:len(data)-8]), arrow.Options{})
		if err != nil {
			t.Fatal(err)
		}
		bars, _, err := readAll(d)
		if _, ok := d.Warnings()["the stream has no end mark: it may have been cut between two batches"]; err != nil || len(bars) != 30 || !ok {
			t.Errorf("%d bars, %v, %v", len(bars), err, d.Warnings())
		}
	})
	t.Run("by its reader", func(t *testing.T) {
		broken := errors.New("the network is down")
		bars, _, err := read[mds.Bar](io.MultiReader(bytes.NewReader(data[:len(data)-20]), iotest.ErrReader(broken)), arrow.Options{})
		if len(bars) != 20 || !errors.Is(err, broken) {
			t.Errorf("%d bars, %v", len(bars), err)
		}
	})
	t.Run("two in one", func(t *testing.T) {
		bars, _, err := read[mds.Bar](io.MultiReader(bytes.NewReader(data), bytes.NewReader(data)), arrow.Options{})
		want := "after row 30: the stream goes on after its end mark: are there several in one? send each on its own"
		if len(bars) != 30 || err == nil || err.Error() != want {
			t.Errorf("%d bars, %v; want %s", len(bars), err, want)
		}
	})
	t.Run("a byte at a time", func(t *testing.T) {
		bars, _, err := read[mds.Bar](iotest.OneByteReader(bytes.NewReader(data)), arrow.Options{})
		if err != nil || len(bars) != 30 {
			t.Errorf("%d bars, %v", len(bars), err)
		}
	})
}

// TestDamaged returns what comes before the damage, and a sentence.
func TestDamaged(t *testing.T) {
	e := newEndless(t, benchBars(10), arrow.WriterOptions{})
	damage := func(at func(batch []byte) int, with ...byte) []byte {
		bad := slices.Clone(e.batches)
		copy(bad[at(bad):], with)
		return slices.Concat(e.head, e.batches, bad, e.batches)
	}
	body := func(batch []byte) int { return 8 + int(binary.LittleEndian.Uint32(batch[4:])) }
	for name, data := range map[string][]byte{
		"metadata":       damage(func([]byte) int { return 8 }, 0xff, 0xff, 0xff, 0x7f),
		"a length":       damage(func([]byte) int { return 4 }, 0xff, 0xff, 0xff, 0x7f),
		"offsets":        damage(body, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f),
		"a small offset": damage(func(b []byte) int { return body(b) + 4 }, 0xff, 0xff, 0xff, 0xff),
	} {
		t.Run(name, func(t *testing.T) {
			bars, rejected, err := read[mds.Bar](bytes.NewReader(data), arrow.Options{})
			var stream *arrow.StreamError
			if len(bars) != 10 || len(rejected) > 0 || !errors.As(err, &stream) || stream.Row != 10 ||
				!strings.HasPrefix(stream.Reason, "the stream is damaged (") {
				t.Errorf("%d bars, %v, %v", len(bars), rejected, err)
			}
		})
	}
	for _, opt := range []arrow.WriterOptions{{Compression: arrow.LZ4}, {Compression: arrow.Zstd}} {
		t.Run(string(opt.Compression), func(t *testing.T) {
			e := newEndless(t, benchBars(10), opt)
			bad := slices.Clone(e.batches)
			copy(bad[body(bad)+16:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
			bars, _, err := read[mds.Bar](bytes.NewReader(slices.Concat(e.head, e.batches, bad)), arrow.Options{})
			want := "after row 10: the stream is damaged (its " + string(opt.Compression) + " data is damaged ("
			if len(bars) != 10 || err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%d bars, %v; want %s…", len(bars), err, want)
			}
		})
	}
}

// TestMetadata damages every byte of a schema and of a batch's metadata, in turn:
// no panic, no recursion without end, no memory for what is claimed.
func TestMetadata(t *testing.T) {
	nested := arrowgo.DataType(utf8)
	for range 2 {
		nested = arrowgo.StructOf(arrowgo.Field{Name: "x", Type: arrowgo.ListOf(nested), Metadata: arrowgo.NewMetadata([]string{"k"}, []string{"v"})})
	}
	schema := arrowgo.NewSchema([]arrowgo.Field{
		{Name: "symbol", Type: dictionary(arrowgo.PrimitiveTypes.Int8, utf8)}, {Name: "timeframe", Type: arrowgo.BinaryTypes.StringView},
		{Name: "ts", Type: timestamps(arrowgo.Second, "+05:30")}, {Name: "close", Type: float64s}, {Name: "x", Type: nested},
		{Name: "u", Type: arrowgo.SparseUnionOf([]arrowgo.Field{{Name: "a", Type: utf8}}, []arrowgo.UnionTypeCode{3})},
	}, nil)
	metadata := arrowgo.NewMetadata([]string{"a", "b"}, []string{"1", "2"})
	schema = arrowgo.NewSchema(schema.Fields(), &metadata)
	var data bytes.Buffer
	w := ipc.NewWriter(&data, ipc.WithSchema(schema))
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	if err := b.UnmarshalJSON([]byte(`{"symbol":"A","timeframe":"a timeframe that is long","ts":1,"close":1,"x":null,"u":null}`)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Write(b.NewRecordBatch()), w.Close()); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	for at := range data.Len() {
		runtime.ReadMemStats(&before)
		for _, bad := range []string{
			"\x00", "\xff", "\xff\xff\xff\x7f", "\x00\x00\x00\x10", "\xfc\xff\xff\xff",
		} {
			damaged := slices.Clone(data.Bytes())
			copy(damaged[at:], bad)
			_, _, _ = read[mds.Bar](bytes.NewReader(damaged), arrow.Options{MaxBytes: 1 << 20})
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
			t.Errorf("damage at byte %d allocates %d bytes", at, grown)
		}
	}
}

// TestHiddenField claims 2²⁸ pairs of metadata where the list of a table's fields
// ends within the entry that says so: arrow-go still reads it.
func TestHiddenField(t *testing.T) {
	pairs := arrowgo.NewMetadata([]string{"a"}, []string{"1"})
	var data bytes.Buffer
	if err := ipc.NewWriter(&data, ipc.WithSchema(arrowgo.NewSchema(arrow.Schema[mds.Bar](false).Fields(), &pairs))).Close(); err != nil {
		t.Fatal(err)
	}
	meta := data.Bytes()[8:]
	word := func(at int) int { return int(int32(binary.LittleEndian.Uint32(meta[at:]))) }
	field := func(table, place int) (at, entry int) {
		entry = table - word(table) + 4 + 2*place
		return table + int(binary.LittleEndian.Uint16(meta[entry:])), entry
	}
	message := word(0)
	header, _ := field(message, 2)
	schema := header + word(header)
	vector, entry := field(schema, 2)
	binary.LittleEndian.PutUint32(meta[vector+word(vector):], 1<<28)
	binary.LittleEndian.PutUint16(meta[schema-word(schema):], uint16(entry+1-(schema-word(schema))))
	_, err := arrow.NewReader[mds.Bar](&data, arrow.Options{})
	want := "it is not an Arrow stream that can be read: its metadata is damaged"
	if header := (*codec.HeaderError)(nil); !errors.As(err, &header) || err.Error() != want {
		t.Errorf("the error is\n%v\nwant\n%s", err, want)
	}
}

// TestTooWide refuses schemas that only a bomb has.
func TestTooWide(t *testing.T) {
	deep := arrowgo.DataType(utf8)
	for range 40 {
		deep = arrowgo.ListOf(deep)
	}
	wide := make([]arrowgo.Field, 10_001)
	for i := range wide {
		wide[i] = arrowgo.Field{Name: "x", Type: utf8}
	}
	for name, schema := range map[string]*arrowgo.Schema{
		"deep": arrowgo.NewSchema([]arrowgo.Field{{Name: "x", Type: deep}}, nil), "wide": arrowgo.NewSchema(wide, nil),
	} {
		t.Run(name, func(t *testing.T) {
			var data bytes.Buffer
			if err := ipc.NewWriter(&data, ipc.WithSchema(schema)).Close(); err != nil {
				t.Fatal(err)
			}
			_, err := arrow.NewReader[mds.Bar](&data, arrow.Options{})
			want := "it is not an Arrow stream that can be read: its schema has more than 10000 columns, or they are nested more than 32 deep"
			if header := (*codec.HeaderError)(nil); !errors.As(err, &header) || err.Error() != want {
				t.Errorf("the error is\n%v\nwant\n%s", err, want)
			}
		})
	}
}

// TestTooLarge bounds what a stream may claim: as it is sent, when it is
// decompressed, and for dictionaries.
func TestTooLarge(t *testing.T) {
	bars := benchBars(1000)
	claim := newEndless(t, bars[:1], arrow.WriterOptions{})
	for i := range claim.batches { // the length of the body, wherever it stands
		body := len(claim.batches) - 8 - int(binary.LittleEndian.Uint32(claim.batches[4:]))
		if i+8 <= len(claim.batches)-body && int(binary.LittleEndian.Uint64(claim.batches[i:])) == body {
			binary.LittleEndian.PutUint64(claim.batches[i:], 1<<40)
			break
		}
	}
	small := slices.Clone(claim.batches) // of a size that is allowed
	claimed := bytes.Index(small, binary.LittleEndian.AppendUint64(nil, 1<<40))
	if claimed < 0 {
		t.Fatal("the length of the body was not found")
	}
	binary.LittleEndian.PutUint64(small[claimed:], 200<<20)
	bomb := newEndless(t, bars, arrow.WriterOptions{Compression: arrow.Zstd})
	for name, tt := range map[string]struct {
		data  []byte
		limit int64
		want  string
	}{
		"a claim":        {slices.Concat(claim.head, claim.batches), 0, "after row 0: a batch needs 1099511627776 bytes, and 268435456 bytes are allowed: write smaller batches"},
		"a small claim":  {slices.Concat(claim.head, small), 0, "after row 0: the stream ends within a message: it was cut; send it again"},
		"a batch":        {write(t, bars, arrow.WriterOptions{}), 10_000, "bytes, and 10000 bytes are allowed: write smaller batches"},
		"a decompressed": {write(t, bars, arrow.WriterOptions{Compression: arrow.Zstd}), 60_000, "after row 0: a batch needs more, and 60000 bytes are allowed: write smaller batches"},
		"a bomb":         {slices.Concat(bomb.head, claimSize(bomb.batches)), 0, "after row 0: a batch needs more, and 268435456 bytes are allowed: write smaller batches"},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err := read[mds.Bar](bytes.NewReader(tt.data), arrow.Options{MaxBytes: tt.limit})
			runtime.ReadMemStats(&after)
			if err == nil || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("the error is\n%v\nwant\n%s", err, tt.want)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 32<<20 {
				t.Errorf("%d bytes were allocated", grown)
			}
		})
	}
}

// claimSize makes the first buffer of a compressed batch one of 2⁴⁰ bytes.
func claimSize(batch []byte) []byte {
	out := slices.Clone(batch)
	binary.LittleEndian.PutUint64(out[8+binary.LittleEndian.Uint32(out[4:]):], 1<<40)
	return out
}

// TestDeltas bounds dictionaries that grow for ever.
func TestDeltas(t *testing.T) {
	typ := dictionary(arrowgo.PrimitiveTypes.Int32, utf8)
	schema := arrowgo.NewSchema([]arrowgo.Field{
		{Name: "symbol", Type: typ}, {Name: "timeframe", Type: utf8}, {Name: "ts", Type: micros}, {Name: "close", Type: float64s},
	}, nil)
	var data bytes.Buffer
	w := ipc.NewWriter(&data, ipc.WithSchema(schema), ipc.WithDictionaryDeltas(true))
	symbols := array.NewDictionaryBuilder(memory.DefaultAllocator, typ.(*arrowgo.DictionaryType)).(*array.BinaryDictionaryBuilder)
	all := array.NewStringBuilder(memory.DefaultAllocator)
	indices := array.NewInt32Builder(memory.DefaultAllocator)
	defer symbols.Release()
	for i := range 20 {
		all.AppendValues([]string{strings.Repeat(string(rune('A'+i)), 50)}, nil)
		values := all.NewStringArray()
		for j := range values.Len() { // the builder begins anew
			all.Append(values.Value(j))
		}
		indices.Append(int32(i))
		columns := []arrowgo.Array{
			array.NewDictionaryArray(typ, indices.NewArray(), values), fromJSON(t, utf8, `["1m"]`),
			fromJSON(t, micros, `["2024-03-15T14:30:00Z"]`), fromJSON(t, float64s, `[1]`),
		}
		if err := w.Write(array.NewRecordBatch(schema, columns, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	bars, rejected, err := read[mds.Bar](bytes.NewReader(data.Bytes()), arrow.Options{})
	if err != nil || len(bars) != 20 || len(rejected) > 0 || bars[19].Symbol != strings.Repeat("T", 50) {
		t.Fatal(len(bars), rejected, err)
	}
	bars, _, err = read[mds.Bar](bytes.NewReader(data.Bytes()), arrow.Options{MaxBytes: 1000})
	if len(bars) == 0 || len(bars) > 15 || err == nil || !strings.HasSuffix(err.Error(), "bytes, and 1000 bytes are allowed: write smaller batches") {
		t.Errorf("%d bars, %v", len(bars), err)
	}
}

// TestRejectedAreBounded returns in between where hardly a row is a record.
func TestRejectedAreBounded(t *testing.T) {
	bars := benchBars(5000)
	for i := range bars {
		bars[i].Close = 1 / (bars[i].Close - bars[i].Close)
	}
	d, err := arrow.NewReader[mds.Bar](bytes.NewReader(write(t, bars, arrow.WriterOptions{})), arrow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	into := make([]mds.Bar, 5000)
	n, rejected, err := d.Next(into)
	if n != 0 || err != nil || len(rejected) < 1024 || len(rejected) > 1024+256 {
		t.Errorf("%d bars and %d rejected, %v", n, len(rejected), err)
	}
}

// TestClose ends a reader.
func TestClose(t *testing.T) {
	d, err := arrow.NewReader[mds.Bar](bytes.NewReader(write(t, benchBars(3), arrow.WriterOptions{})), arrow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	d.Close()
	if n, _, err := d.Next(make([]mds.Bar, 3)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d bars, %v", n, err)
	}
}

// TestNoAllocationsPerRow decodes and encodes bars: what is allocated is the same
// for a batch of a thousand rows as for one of eight thousand.
func TestNoAllocationsPerRow(t *testing.T) {
	for name, opt := range writers() {
		decode := func(rows int) float64 {
			d, err := arrow.NewReader[mds.Bar](newEndless(t, benchBars(rows), opt), arrow.Options{})
			if err != nil {
				t.Fatal(err)
			}
			into := make([]mds.Bar, rows)
			return testing.AllocsPerRun(50, func() {
				if n, _, err := d.Next(into); n != rows || err != nil {
					t.Fatal(n, err)
				}
			})
		}
		encode := func(rows int) float64 {
			opt.BatchRows = rows
			w, err := arrow.NewWriter[mds.Bar](io.Discard, opt)
			if err != nil {
				t.Fatal(err)
			}
			bars := benchBars(rows)
			return testing.AllocsPerRun(50, func() {
				if err := w.Write(bars); err != nil {
					t.Fatal(err)
				}
			})
		}
		for what, allocs := range map[string]func(int) float64{"decode": decode, "encode": encode} {
			t.Run(name+", "+what, func(t *testing.T) {
				small, large := allocs(1000), allocs(8000)
				t.Logf("a batch of 1,000 rows costs %.0f allocations, one of 8,000 %.0f", small, large)
				if large-small > 40 {
					t.Errorf("a batch of 1,000 rows costs %.0f allocations, one of 8,000 %.0f", small, large)
				}
			})
		}
	}
}
