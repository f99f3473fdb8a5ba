package arrow

import (
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/marketdatastore/mds"
)

// Schema returns the columns of a kind as a [Writer] writes them: named as the
// schema of the kind names them, of the types that follow, and nullable where a
// value may be missing.
//
//	text      utf8, or dictionary<int32, utf8> of identity columns
//	time      timestamp[us, UTC]
//	date      date32
//	decimal   decimal128(18, 9)
//	number    float64, int64
//	list      list<utf8>
//	metrics   map<utf8, float64>
func Schema[R mds.Record[R]](dictionaries bool) *arrow.Schema {
	schema := mds.SchemaOf[R]()
	fields := make([]arrow.Field, len(schema.Columns))
	for i := range schema.Columns {
		c := &schema.Columns[i]
		fields[i] = arrow.Field{Name: c.Name, Type: typeOf(c, dictionaries), Nullable: c.Optional() && c.Role == mds.Value}
	}
	return arrow.NewSchema(fields, nil)
}

func typeOf[R any](c *mds.Column[R], dictionaries bool) arrow.DataType {
	switch {
	case c.Text != nil && dictionaries && c.Role == mds.Identity:
		return &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
	case c.Text != nil:
		return arrow.BinaryTypes.String
	case c.Time != nil:
		return arrow.FixedWidthTypes.Timestamp_us
	case c.Date != nil:
		return arrow.FixedWidthTypes.Date32
	case c.Decimal != nil:
		return &arrow.Decimal128Type{Precision: 18, Scale: 9}
	case c.OptInt != nil:
		return arrow.PrimitiveTypes.Int64
	case c.List != nil:
		return arrow.ListOf(arrow.BinaryTypes.String)
	case c.Metrics != nil:
		return arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Float64)
	}
	return arrow.PrimitiveTypes.Float64
}
