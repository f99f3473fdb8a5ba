package arrow_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	arrowgo "github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/codec/arrow"
)

// column is a column of a stream, its values as JSON.
type column struct {
	name   string
	typ    arrowgo.DataType
	values string
}

var (
	utf8     = arrowgo.BinaryTypes.String
	float64s = arrowgo.PrimitiveTypes.Float64
	micros   = arrowgo.FixedWidthTypes.Timestamp_us
)

func timestamps(unit arrowgo.TimeUnit, zone string) arrowgo.DataType {
	return &arrowgo.TimestampType{Unit: unit, TimeZone: zone}
}

func dictionary(index, values arrowgo.DataType) arrowgo.DataType {
	return &arrowgo.DictionaryType{IndexType: index, ValueType: values}
}

// stream writes columns as a stream of one batch.
func stream(t testing.TB, columns ...column) []byte {
	t.Helper()
	fields := make([]arrowgo.Field, len(columns))
	arrays := make([]arrowgo.Array, len(columns))
	for i, c := range columns {
		fields[i] = arrowgo.Field{Name: c.name, Type: c.typ, Nullable: true}
		if d, ok := c.typ.(*arrowgo.DictionaryType); ok && d.ValueType != utf8 { // for which there is no builder
			arrays[i] = array.NewDictionaryArray(d, fromJSON(t, d.IndexType, "[0]"), fromJSON(t, d.ValueType, c.values))
			continue
		}
		arrays[i] = fromJSON(t, c.typ, c.values)
	}
	schema := arrowgo.NewSchema(fields, nil)
	var out bytes.Buffer
	w := ipc.NewWriter(&out, ipc.WithSchema(schema))
	if err := w.Write(array.NewRecordBatch(schema, arrays, int64(arrays[0].Len()))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func fromJSON(t testing.TB, typ arrowgo.DataType, values string) arrowgo.Array {
	t.Helper()
	if ts, ok := typ.(*arrowgo.TimestampType); ok && ts.TimeZone != "" && ts.TimeZone != "UTC" { // which it may not know
		data := fromJSON(t, timestamps(ts.Unit, "UTC"), values).Data()
		return array.MakeFromData(array.NewData(typ, data.Len(), data.Buffers(), nil, data.NullN(), 0))
	}
	a, _, err := array.FromJSON(memory.DefaultAllocator, typ, strings.NewReader(values))
	if err != nil {
		t.Fatalf("%s of %s: %v", values, typ, err)
	}
	return a
}

// with returns columns of which one is another, or is added.
func with(columns []column, c column) []column {
	out := slices.Clone(columns)
	for i := range out {
		if out[i].name == c.name {
			out[i] = c
			return out
		}
	}
	return append(out, c)
}

func bar() []column {
	return []column{
		{"symbol", utf8, `["MSFT"]`}, {"timeframe", utf8, `["1m"]`},
		{"ts", micros, `["2024-03-15T14:30:00Z"]`}, {"close", float64s, `[1]`},
	}
}

func daily() []column { return with(bar(), column{"timeframe", utf8, `["1d"]`}) }

func option() []column {
	return []column{
		{"symbol", utf8, `["SPX"]`}, {"expiry", arrowgo.FixedWidthTypes.Date32, `["2016-06-17"]`}, {"option_type", utf8, `["C"]`},
		{"strike", float64s, `[650]`}, {"ts", micros, `["2014-12-15T21:00:00Z"]`}, {"bid", float64s, `[1]`},
	}
}

func fundamental() []column {
	return []column{
		{"symbol", utf8, `["SNOW"]`}, {"asof", arrowgo.FixedWidthTypes.Date32, `["2023-01-31"]`},
		{"filed_at", micros, `["2023-03-29T00:00:00Z"]`}, {"revenue", float64s, `[1]`},
	}
}

func news() []column {
	return []column{
		{"vendor", utf8, `["ibkr"]`}, {"published_at", micros, `["2020-03-05T23:02:41Z"]`}, {"title", utf8, `["A"]`},
	}
}

// TestTypes reads a value of each type that a column takes: want is its text in
// CSV, or what is said of the row.
func TestTypes(t *testing.T) {
	type tt struct {
		base []column
		column
		want string
	}
	types := []tt{
		// Text.
		{bar(), column{"symbol", utf8, `["brk.b"]`}, "BRK.B"},
		{bar(), column{"symbol", arrowgo.BinaryTypes.LargeString, `["brk.b"]`}, "BRK.B"},
		{bar(), column{"symbol", arrowgo.BinaryTypes.StringView, `["brk.b"]`}, "BRK.B"},
		{bar(), column{"symbol", arrowgo.BinaryTypes.StringView, `["a text longer than a view"]`}, "A TEXT LONGER THAN A VIEW"},
		{bar(), column{"symbol", dictionary(arrowgo.PrimitiveTypes.Int8, utf8), `["brk.b"]`}, "BRK.B"},
		{bar(), column{"symbol", dictionary(arrowgo.PrimitiveTypes.Uint64, arrowgo.BinaryTypes.LargeString), `["brk.b"]`}, "BRK.B"},
		{bar(), column{"symbol", dictionary(arrowgo.PrimitiveTypes.Uint16, arrowgo.BinaryTypes.StringView), `[null]`}, "symbol: is missing"},
		{bar(), column{"timeframe", dictionary(arrowgo.PrimitiveTypes.Int32, utf8), `["60 min"]`}, "1h"},
		{bar(), column{"symbol", utf8, `[null]`}, "symbol: is missing"},
		{bar(), column{"symbol", dictionary(arrowgo.PrimitiveTypes.Int32, utf8), `[null]`}, "symbol: is missing"},
		{bar(), column{"symbol", arrowgo.Null, `[null]`}, "symbol: is missing"},
		{bar(), column{"vendor", utf8, `[""]`}, "vendor: is missing"},
		{bar(), column{"timeframe", utf8, `["7m"]`}, `timeframe: not a timeframe: "7m" (use one of 1s 5s 10s 15s 30s 1m 2m 3m 5m 10m 15m 30m 1h 2h 3h 4h 6h 8h 12h 1d 1w 1mo)`},
		{bar(), column{"timeframe", dictionary(arrowgo.PrimitiveTypes.Int32, utf8), `["7m"]`}, `timeframe: not a timeframe: "7m" (use one of 1s 5s 10s 15s 30s 1m 2m 3m 5m 10m 15m 30m 1h 2h 3h 4h 6h 8h 12h 1d 1w 1mo)`},
		{fundamental(), column{"form", dictionary(arrowgo.PrimitiveTypes.Int16, utf8), `["10-K"]`}, "10-K"},
		{fundamental(), column{"form", arrowgo.Null, `[null]`}, ""},
		{news(), column{"title", utf8, `["null"]`}, "null"},
		{news(), column{"title", utf8, `[" "]`}, "title: is missing"},

		// Times.
		{bar(), column{"ts", timestamps(arrowgo.Second, "UTC"), `[1710513000]`}, "2024-03-15T14:30:00Z"},
		{bar(), column{"ts", timestamps(arrowgo.Millisecond, "America/New_York"), `[1710513000001]`}, "2024-03-15T14:30:00.001Z"},
		{bar(), column{"ts", timestamps(arrowgo.Nanosecond, "+05:30"), `[1710513000000001000]`}, "2024-03-15T14:30:00.000001Z"},
		{bar(), column{"ts", timestamps(arrowgo.Nanosecond, "UTC"), `[1710513000000001999]`}, "2024-03-15T14:30:00.000001Z"},
		{bar(), column{"ts", timestamps(arrowgo.Microsecond, "UTC"), `[-1]`}, "1969-12-31T23:59:59.999999Z"},
		{bar(), column{"ts", timestamps(arrowgo.Second, "UTC"), `[9223372036854775807]`}, "ts: year 292277026596 is outside 1 to 9999"},
		{bar(), column{"ts", timestamps(arrowgo.Second, "UTC"), `[-62135596800]`}, `ts: "0001-01-01T00:00:00Z" is the one instant that cannot be kept`},
		{bar(), column{"ts", micros, `[null]`}, "ts: is missing"},
		{bar(), column{"ts", arrowgo.FixedWidthTypes.Date32, `["2024-03-15"]`}, `ts: "2024-03-15" has no time of day, which bars of 1m need`},
		{bar(), column{"ts", utf8, `["2024-03-15T10:30:00-04:00"]`}, "2024-03-15T14:30:00Z"},
		{bar(), column{"ts", dictionary(arrowgo.PrimitiveTypes.Int32, utf8), `["20240315T1430Z"]`}, "2024-03-15T14:30:00Z"},
		{bar(), column{"ts", utf8, `["soon"]`}, `ts: "soon" is not a time`},
		{bar(), column{"ts", arrowgo.PrimitiveTypes.Int64, `[1710513000000]`}, "2024-03-15T14:30:00Z"},
		{bar(), column{"ts", arrowgo.PrimitiveTypes.Uint32, `[1710513000]`}, "2024-03-15T14:30:00Z"},
		{bar(), column{"ts", arrowgo.PrimitiveTypes.Int32, `[99]`}, `ts: "99" is too short for an epoch, and no date`},
		{daily(), column{"ts", arrowgo.FixedWidthTypes.Date32, `["2024-03-15"]`}, "2024-03-15T00:00:00Z"},
		{daily(), column{"ts", arrowgo.FixedWidthTypes.Date64, `["2024-03-15"]`}, "2024-03-15T00:00:00Z"},
		{daily(), column{"ts", arrowgo.PrimitiveTypes.Int32, `[20240315]`}, "2024-03-15T00:00:00Z"},
		{daily(), column{"ts", timestamps(arrowgo.Second, "America/New_York"), `["2024-03-16T03:59:59Z"]`}, "2024-03-15T00:00:00Z"},
		{daily(), column{"ts", timestamps(arrowgo.Nanosecond, "-0700"), `["2024-03-16T06:59:59.999999999Z"]`}, "2024-03-15T00:00:00Z"},
		{daily(), column{"ts", timestamps(arrowgo.Second, ""), `["2024-03-16T03:59:59"]`}, "2024-03-16T00:00:00Z"},
		{option(), column{"ts", arrowgo.FixedWidthTypes.Date32, `["2014-12-15"]`}, "2014-12-15T00:00:00Z"},
		{option(), column{"ts", arrowgo.FixedWidthTypes.Date64, `[1418677200000]`}, "no zone"},
		{fundamental(), column{"filed_at", micros, `[null]`}, "2023-01-31T00:00:00Z"},

		// Dates.
		{option(), column{"expiry", arrowgo.FixedWidthTypes.Date64, `["2016-06-17"]`}, "2016-06-17"},
		{option(), column{"expiry", timestamps(arrowgo.Nanosecond, ""), `["2016-06-17T00:00:00"]`}, "2016-06-17"},
		{option(), column{"expiry", timestamps(arrowgo.Second, ""), `["2016-06-17T16:00:00"]`}, "2016-06-17"},
		{option(), column{"expiry", timestamps(arrowgo.Second, "America/New_York"), `["2016-06-18T01:00:00Z"]`}, "2016-06-17"},
		{option(), column{"expiry", utf8, `["6/17/2016"]`}, "2016-06-17"},
		{option(), column{"expiry", arrowgo.PrimitiveTypes.Int64, `[20160617]`}, "2016-06-17"},
		{option(), column{"expiry", arrowgo.FixedWidthTypes.Date32, `[null]`}, "expiry: is missing"},
		{option(), column{"expiry", arrowgo.FixedWidthTypes.Date32, `[2147483647]`}, "expiry: year 5881580 is outside 1 to 9999"},
		{fundamental(), column{"asof", timestamps(arrowgo.Second, ""), `["2023-01-31T12:00:00"]`}, "2023-01-31"},

		// Decimals.
		{option(), column{"strike", float64s, `[0.1]`}, "0.1"},
		{option(), column{"strike", float64s, `[4500000.123456789]`}, "4500000.123456789"},
		{option(), column{"strike", float64s, `[999999999.5]`}, "999999999.5"},
		{option(), column{"strike", float64s, `[123456789.12345679]`}, "123456789.12345679"},
		{option(), column{"strike", float64s, `[1e-10]`}, `strike: "1e-10" has more than 9 decimals, which cannot be kept exactly`},
		{option(), column{"strike", float64s, `[1e9]`}, `strike: "1e+09" is not below 1,000,000,000 in size`},
		{option(), column{"strike", arrowgo.PrimitiveTypes.Float32, `[0.5]`}, "0.5"},
		{option(), column{"strike", arrowgo.PrimitiveTypes.Int16, `[-37]`}, "-37"},
		{option(), column{"strike", arrowgo.PrimitiveTypes.Uint64, `[18446744073709551615]`}, `strike: "18446744073709551615" is not below 1,000,000,000 in size`},
		{option(), column{"strike", &arrowgo.Decimal128Type{Precision: 18, Scale: 9}, `["650.5"]`}, "650.5"},
		{option(), column{"strike", &arrowgo.Decimal128Type{Precision: 38, Scale: 12}, `["-650.500000000000"]`}, "-650.5"},
		{option(), column{"strike", &arrowgo.Decimal128Type{Precision: 38, Scale: 12}, `["0.000000000001"]`}, `strike: "0.000000000001" has more than 9 decimals, which cannot be kept exactly`},
		{option(), column{"strike", &arrowgo.Decimal128Type{Precision: 38, Scale: 20}, `["1.50000000000000000000"]`}, "1.5"},
		{option(), column{"strike", &arrowgo.Decimal128Type{Precision: 38, Scale: 2}, `["123456789012345678901234567890.25"]`}, `strike: "123456789012345678901234567890.25" is not below 1,000,000,000 in size`},
		{option(), column{"strike", &arrowgo.Decimal128Type{Precision: 10, Scale: -2}, `["65000"]`}, "65000"},
		{option(), column{"strike", &arrowgo.Decimal256Type{Precision: 40, Scale: 4}, `["650.5000"]`}, "650.5"},
		{option(), column{"strike", utf8, `["650.5"]`}, "650.5"},
		{option(), column{"strike", float64s, `[null]`}, "strike: is 0 or missing"},

		// Numbers.
		{bar(), column{"volume", arrowgo.PrimitiveTypes.Int8, `[127]`}, "127"},
		{bar(), column{"volume", arrowgo.PrimitiveTypes.Uint8, `[255]`}, "255"},
		{bar(), column{"volume", arrowgo.PrimitiveTypes.Int16, `[-1]`}, "volume: -1 is negative"},
		{bar(), column{"volume", arrowgo.PrimitiveTypes.Uint16, `[65535]`}, "65535"},
		{bar(), column{"volume", arrowgo.PrimitiveTypes.Int32, `[2147483647]`}, "2147483647"},
		{bar(), column{"volume", arrowgo.PrimitiveTypes.Uint32, `[4294967295]`}, "4294967295"},
		{bar(), column{"volume", arrowgo.PrimitiveTypes.Int64, `[9007199254740993]`}, "9007199254740992"},
		{bar(), column{"volume", arrowgo.PrimitiveTypes.Uint64, `[18446744073709551615]`}, "18446744073709552000"},
		{bar(), column{"volume", arrowgo.PrimitiveTypes.Float32, `[0.1]`}, "0.10000000149011612"},
		{bar(), column{"volume", arrowgo.FixedWidthTypes.Float16, `[0.5]`}, "0.5"},
		{bar(), column{"volume", &arrowgo.Decimal128Type{Precision: 20, Scale: 3}, `["1234.500"]`}, "1234.5"},
		{bar(), column{"volume", &arrowgo.Decimal128Type{Precision: 38, Scale: 3}, `["12345678901234567890.125"]`}, "12345678901234567000"},
		{bar(), column{"volume", &arrowgo.Decimal128Type{Precision: 38, Scale: 3}, `["18446744073709551.617"]`}, "18446744073709550"}, // 2⁶⁴ + 1 thousandths
		// The nearest number, which the quotient of the nearest numbers is not.
		{bar(), column{"volume", &arrowgo.Decimal128Type{Precision: 20, Scale: 3}, `["3916589616287113.937"]`}, "3916589616287114"},
		{bar(), column{"volume", &arrowgo.Decimal32Type{Precision: 9, Scale: 3}, `["1.500"]`}, "1.5"},
		{bar(), column{"volume", &arrowgo.Decimal64Type{Precision: 18, Scale: 3}, `["1.500"]`}, "1.5"},
		{bar(), column{"volume", &arrowgo.Decimal256Type{Precision: 40, Scale: 3}, `["1.500"]`}, "1.5"},
		{bar(), column{"volume", float64s, `[null]`}, ""},
		{bar(), column{"volume", arrowgo.Null, `[null]`}, ""},
		{bar(), column{"close", float64s, `[null]`}, "close: is missing"},
		{bar(), column{"close", arrowgo.Null, `[null]`}, "close: is missing"},
		{bar(), column{"close", arrowgo.PrimitiveTypes.Int64, `[null]`}, "close: is missing"},
		{bar(), column{"close", &arrowgo.Decimal128Type{Precision: 20, Scale: 3}, `[null]`}, "close: is missing"},
		{bar(), column{"close", &arrowgo.Decimal128Type{Precision: 20, Scale: 3}, `["1.25"]`}, "1.25"},

		// Whole numbers.
		{bar(), column{"trade_count", arrowgo.PrimitiveTypes.Int64, `[9223372036854775807]`}, "9223372036854775807"},
		{bar(), column{"trade_count", arrowgo.PrimitiveTypes.Uint64, `[9223372036854775808]`}, `trade_count: "9223372036854775808" is not a whole number`},
		{bar(), column{"trade_count", arrowgo.PrimitiveTypes.Int8, `[-1]`}, "trade_count: -1 is negative"},
		{bar(), column{"trade_count", float64s, `[120.0]`}, "120"},
		{bar(), column{"trade_count", float64s, `[9007199254740992]`}, "9007199254740992"},
		{bar(), column{"trade_count", float64s, `[1.5]`}, `trade_count: "1.5" is not a whole number`},
		{bar(), column{"trade_count", float64s, `[1e300]`}, `trade_count: "1e+300" is not a whole number`},
		{bar(), column{"trade_count", float64s, `[1e16]`}, `trade_count: "1e+16" is not a whole number`},
		{bar(), column{"trade_count", &arrowgo.Decimal128Type{Precision: 20, Scale: 2}, `["120.00"]`}, "120"},
		{bar(), column{"trade_count", &arrowgo.Decimal128Type{Precision: 20, Scale: 2}, `["120.25"]`}, `trade_count: "120.25" is not a whole number`},
		{bar(), column{"trade_count", arrowgo.PrimitiveTypes.Int32, `[null]`}, ""},
		{bar(), column{"trade_count", &arrowgo.Decimal128Type{Precision: 20, Scale: 2}, `[null]`}, ""},

		// Lists.
		{news(), column{"symbols", arrowgo.ListOf(utf8), `[["aapl","MSFT","AAPL"]]`}, "AAPL;MSFT"},
		{news(), column{"symbols", arrowgo.LargeListOf(arrowgo.BinaryTypes.StringView), `[["aapl"]]`}, "AAPL"},
		{news(), column{"symbols", arrowgo.ListOf(utf8), `[[]]`}, ""},
		{news(), column{"symbols", arrowgo.ListOf(utf8), `[null]`}, ""},
		{news(), column{"symbols", arrowgo.ListOf(utf8), `[["A",null]]`}, `symbols: ["A",null] is not an array of strings`},
		{news(), column{"symbols", arrowgo.ListOf(utf8), `[["A","B\u0001"]]`}, `symbols: "B\x01" holds a character that cannot be printed`},
		{news(), column{"symbols", utf8, `["A;B"]`}, "A;B"},

		// Metrics.
		{fundamental(), column{"extra", arrowgo.MapOf(utf8, float64s), `[[{"key":"a/USD","value":1.5},{"key":"b","value":null}]]`}, `{"a/USD":1.5}`},
		{fundamental(), column{"extra", arrowgo.MapOf(utf8, arrowgo.PrimitiveTypes.Int32), `[[{"key":"a","value":3}]]`}, `{"a":3}`},
		{fundamental(), column{"extra", arrowgo.MapOf(utf8, float64s), `[[]]`}, ""},
		{fundamental(), column{"extra", arrowgo.MapOf(utf8, float64s), `[null]`}, ""},
		{fundamental(), column{"extra", arrowgo.MapOf(utf8, float64s), `[[{"key":"a","value":1},{"key":"a","value":2}]]`}, `extra: the metric "a" is there twice`},
		{fundamental(), column{"extra", arrowgo.StructOf(arrowgo.Field{Name: "a", Type: float64s, Nullable: true}, arrowgo.Field{Name: "b", Type: arrowgo.PrimitiveTypes.Int64, Nullable: true}), `[{"a":0.25,"b":null}]`}, `{"a":0.25}`},
		{fundamental(), column{"extra", utf8, `["{\"a\":1}"]`}, `{"a":1}`},
		{fundamental(), column{"extra", utf8, `["[1]"]`}, `extra: "[1]" is not a JSON object of numbers`},
	}
	for _, tt := range types {
		t.Run(tt.name+" of "+tt.typ.String()+" "+tt.values, func(t *testing.T) {
			columns := with(tt.base, tt.column)
			var got string
			switch tt.base[1].name {
			case "timeframe":
				got = cell[mds.Bar](t, columns, tt.name)
			case "expiry":
				got = cell[mds.OptionSnap](t, columns, tt.name)
			case "asof":
				got = cell[mds.Fundamentals](t, columns, tt.name)
			default:
				got = cell[mds.News](t, columns, tt.name)
			}
			if got != tt.want {
				t.Errorf("it is read as\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// cell reads a row both ways and returns what a column came to be, or what is said
// of the row.
func cell[R mds.Record[R]](t *testing.T, columns []column, name string) string {
	t.Helper()
	var found []string
	for _, careful := range []bool{false, true} {
		d, err := arrow.NewReader[R](bytes.NewReader(stream(t, columns...)), arrow.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if careful {
			arrow.Careful(d)
		}
		records, rejected, err := readAll(d)
		switch {
		case err != nil && strings.Contains(err.Error(), "has no time zone"):
			found = append(found, "no zone")
		case err != nil || len(records)+len(rejected) != 1:
			t.Fatal(records, rejected, err)
		case len(rejected) == 1:
			found = append(found, rejected[0].Reason)
		default:
			schema := mds.SchemaOf[R]()
			found = append(found, string(schema.Lookup(name).AppendText(nil, &records[0])))
		}
	}
	if found[0] != found[1] {
		t.Errorf("column by column it is %q, and value by value %q", found[0], found[1])
	}
	return found[0]
}

// TestRefusedTypes names the column, its type and what is taken.
func TestRefusedTypes(t *testing.T) {
	number := "is taken from a float, an integer or a decimal"
	instant := "is taken from a timestamp, date32, date64, text, or an integer of seconds, milliseconds, microseconds or nanoseconds since 1970"
	for name, tt := range map[string]struct {
		base []column
		column
		want string
	}{
		"a flag":            {bar(), column{"close", arrowgo.FixedWidthTypes.Boolean, `[true]`}, `the stream's column "close" is of type bool, and the close ` + number},
		"a number in words": {bar(), column{"volume", utf8, `["1"]`}, `the stream's column "volume" is of type utf8, and the volume ` + number},
		"a whole number":    {bar(), column{"trade_count", arrowgo.FixedWidthTypes.Boolean, `[true]`}, `the stream's column "trade_count" is of type bool, and the trade_count ` + number},
		"a float as time":   {bar(), column{"ts", float64s, `[1]`}, `the stream's column "ts" is of type float64, and the ts ` + instant},
		"no time":           {bar(), column{"ts", arrowgo.Null, `[null]`}, `the stream's column "ts" is of type null, and the ts ` + instant},
		"a number as text":  {bar(), column{"symbol", arrowgo.PrimitiveTypes.Int64, `[1]`}, `the stream's column "symbol" is of type int64, and the symbol is taken from utf8, large_utf8, utf8_view or a dictionary of one of them`},
		"bytes as text":     {bar(), column{"symbol", arrowgo.BinaryTypes.Binary, `["YQ=="]`}, `the stream's column "symbol" is of type binary, and the symbol is taken from utf8, large_utf8, utf8_view or a dictionary of one of them`},
		"a strike":          {option(), column{"strike", arrowgo.FixedWidthTypes.Boolean, `[true]`}, `the stream's column "strike" is of type bool, and the strike is taken from a decimal, an integer, a float or text`},
		"a list of numbers": {news(), column{"symbols", arrowgo.ListOf(float64s), `[[1]]`}, `the stream's column "symbols" is of type list<item: float64, nullable>, and the symbols is taken from a list or large_list of utf8, or text`},
		"metrics of text":   {fundamental(), column{"extra", arrowgo.MapOf(utf8, utf8), `[[]]`}, `the stream's column "extra" is of type map<utf8, utf8, items_nullable>, and the extra is taken from a map of utf8 to numbers, a struct of numbers, or JSON as text`},
		"an unknown zone":   {bar(), column{"ts", timestamps(arrowgo.Second, "Mars/Olympus"), `[1]`}, `the stream's column "ts" has the time zone "Mars/Olympus", which is not known: use a name such as America/New_York or an offset such as +05:30`},
		"a zone of no use":  {bar(), column{"ts", timestamps(arrowgo.Second, "Local"), `[1]`}, `the stream's column "ts" has the time zone "Local", which is not known: use a name such as America/New_York or an offset such as +05:30`},
	} {
		t.Run(name, func(t *testing.T) {
			data := stream(t, with(tt.base, tt.column)...)
			var err error
			switch tt.base[1].name {
			case "timeframe":
				_, _, err = read[mds.Bar](bytes.NewReader(data), arrow.Options{})
			case "expiry":
				_, _, err = read[mds.OptionSnap](bytes.NewReader(data), arrow.Options{})
			case "asof":
				_, _, err = read[mds.Fundamentals](bytes.NewReader(data), arrow.Options{})
			default:
				_, _, err = read[mds.News](bytes.NewReader(data), arrow.Options{})
			}
			setup, ok := err.(*codec.SetupError) //nolint:errorlint // it is not wrapped
			if !ok || setup.Error() != tt.want {
				t.Errorf("the error is\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
}
