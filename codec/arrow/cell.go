package arrow

import (
	"math/big"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/marketdatastore/mds/codec"
)

// set gives a column of a record the value of the row that is next, as the other
// formats read it.
func (d *Reader[R]) set(record *R, s *source[R]) {
	row := d.at
	if isNull(s.array, row) {
		return // what is required says so in the end
	}
	switch a := s.array.(type) {
	case *array.Map, *array.Struct:
		figures, fault := figuresOf(a, row)
		if fault != "" {
			d.table.Fault(s.column, fault)
			return
		}
		d.table.SetMetrics(record, s.column, figures)
		return
	case array.ListLike:
		items, ok := listItems(a, textsOf(a.ListValues()), row)
		if !ok {
			d.table.Fault(s.column, codec.ShortText(appendJSON(nil, a, row, s.zone))+" is not an array of strings")
			return
		}
		d.table.SetItems(record, s.column, items)
		return
	case *array.Timestamp, *array.Date32, *array.Date64:
		if fault := yearFault(a, row, s.zone); fault != "" {
			d.table.Fault(s.column, fault)
			return
		}
	}
	d.scratch = appendText(d.scratch[:0], s.array, row, s.zone)
	d.table.SetText(record, s.column, d.scratch)
}

// appendText writes a value as text that the other formats read.
func appendText(dst []byte, a arrow.Array, row int, zone zoneOf) []byte {
	switch a := a.(type) {
	case texts, *array.Dictionary:
		text, _ := textsOf(a)(row)
		return append(dst, text...)
	case *array.Timestamp:
		layout := "2006-01-02T15:04:05.999999999"
		if zone != nil {
			layout += "Z07:00"
		}
		return shown(a, row, zone).AppendFormat(dst, layout)
	case *array.Date32:
		return shown(a, row, nil).AppendFormat(dst, time.DateOnly)
	case *array.Date64:
		if t := shown(a, row, nil); t.Truncate(24*time.Hour) != t {
			return t.AppendFormat(dst, "2006-01-02T15:04:05.999999999")
		}
		return shown(a, row, nil).AppendFormat(dst, time.DateOnly)
	case *array.Time32:
		unit := a.DataType().(*arrow.Time32Type).Unit
		return a.Value(row).ToTime(unit).AppendFormat(dst, "15:04:05.999999999")
	case *array.Time64:
		unit := a.DataType().(*arrow.Time64Type).Unit
		return a.Value(row).ToTime(unit).AppendFormat(dst, "15:04:05.999999999")
	}
	return appendValue(dst, a, row)
}

// shown is the time that a clock shows for a value: in its zone, or as it is.
func shown(a arrow.Array, row int, zone zoneOf) time.Time {
	var t time.Time
	switch a := a.(type) {
	case *array.Timestamp:
		switch v := int64(a.Value(row)); a.DataType().(*arrow.TimestampType).Unit {
		case arrow.Second:
			t = time.Unix(v, 0)
		case arrow.Millisecond:
			t = time.UnixMilli(v)
		case arrow.Microsecond:
			t = time.UnixMicro(v)
		case arrow.Nanosecond:
			t = time.Unix(0, v)
		}
	case *array.Date32:
		t = time.Unix(int64(a.Value(row))*24*3600, 0)
	case *array.Date64:
		t = time.UnixMilli(int64(a.Value(row)))
	}
	if zone != nil {
		return t.In(zone)
	}
	return t.UTC()
}

// yearFault says that a time has a year that is not written with four digits.
func yearFault(a arrow.Array, row int, zone zoneOf) string {
	if year := shown(a, row, zone).Year(); year < 1 || year > 9999 {
		return "year " + strconv.Itoa(year) + " is outside 1 to 9999"
	}
	return ""
}

// appendValue writes a number.
func appendValue(dst []byte, a arrow.Array, row int) []byte {
	switch a := a.(type) {
	case *array.Float64:
		return strconv.AppendFloat(dst, a.Value(row), 'g', -1, 64)
	case *array.Float32:
		return strconv.AppendFloat(dst, float64(a.Value(row)), 'g', -1, 64)
	case *array.Float16:
		return strconv.AppendFloat(dst, float64(a.Value(row).Float32()), 'g', -1, 64)
	case *array.Int64:
		return strconv.AppendInt(dst, a.Value(row), 10)
	case *array.Uint64:
		return strconv.AppendUint(dst, a.Value(row), 10)
	case *array.Decimal32:
		return appendDecimal(dst, big.NewInt(int64(a.Value(row))), int(a.DataType().(*arrow.Decimal32Type).Scale))
	case *array.Decimal64:
		return appendDecimal(dst, big.NewInt(int64(a.Value(row))), int(a.DataType().(*arrow.Decimal64Type).Scale))
	case *array.Decimal128:
		return appendDecimal(dst, a.Value(row).BigInt(), int(a.DataType().(*arrow.Decimal128Type).Scale))
	case *array.Decimal256:
		return appendDecimal(dst, a.Value(row).BigInt(), int(a.DataType().(*arrow.Decimal256Type).Scale))
	}
	return append(dst, a.ValueStr(row)...) // the other integers
}

// raw writes the columns that were read of the row that is next as a JSON object.
func (d *Reader[R]) raw() string {
	line := []byte{'{'}
	for i := range d.sources {
		s := &d.sources[i]
		if i > 0 {
			line = append(line, ',')
		}
		line = appendQuoted(line, []byte(s.name))
		line = append(line, ':')
		line = appendJSON(line, s.array, d.at, s.zone)
	}
	return string(append(line, '}'))
}

// most is how many items of a list, and figures, are written of a row.
const most = 8

// appendJSON writes a value as JSON, shortened.
func appendJSON(dst []byte, a arrow.Array, row int, zone zoneOf) []byte {
	if isNull(a, row) {
		return append(dst, "null"...)
	}
	switch a := a.(type) {
	case *array.Map:
		start, end := a.ValueOffsets(row)
		name := textsOf(a.Keys())
		dst = append(dst, '{')
		for i := start; i < min(end, start+most); i++ {
			if i > start {
				dst = append(dst, ',')
			}
			text, _ := name(int(i))
			dst = append(appendQuoted(dst, []byte(text)), ':')
			dst = appendJSON(dst, a.Items(), int(i), nil)
		}
		return append(dst, '}')
	case *array.Struct:
		dst = append(dst, '{')
		for i := range min(a.NumField(), most) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendQuoted(dst, []byte(a.DataType().(*arrow.StructType).Field(i).Name)), ':')
			dst = appendJSON(dst, a.Field(i), row, nil)
		}
		return append(dst, '}')
	case array.ListLike:
		start, end := a.ValueOffsets(row)
		dst = append(dst, '[')
		for i := start; i < min(end, start+most); i++ {
			if i > start {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, a.ListValues(), int(i), nil)
		}
		return append(dst, ']')
	}
	text := appendText(nil, a, row, zone)
	if value := jsontext.Value(text); numeric(a.DataType().ID()) && value.IsValid() { // not NaN
		return append(dst, text...)
	}
	return appendQuoted(dst, text)
}

func numeric(id arrow.Type) bool { return integer(id) || floating(id) || arrow.IsDecimal(id) }

// appendQuoted writes a text as a JSON string, shortened.
func appendQuoted(dst, text []byte) []byte {
	quoted, err := jsontext.AppendQuote(dst, codec.ShortText(text))
	if err != nil {
		return append(dst, `""`...) // the text is valid UTF-8
	}
	return quoted
}
