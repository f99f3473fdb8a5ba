package arrow

import (
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"github.com/marketdatastore/mds"
)

// newAppender returns what appends a column of records to its builder.
func newAppender[R any](c *mds.Column[R], to array.Builder) appender[R] {
	switch {
	case c.Text != nil:
		return appendTexts(c, to)
	case c.Time != nil:
		return appendEach(to.(*array.TimestampBuilder), func(b *array.TimestampBuilder, r *R) int {
			b.UnsafeAppend(arrow.Timestamp(c.Time(r).UnixMicro()))
			return 0
		})
	case c.Date != nil:
		return appendEach(to.(*array.Date32Builder), func(b *array.Date32Builder, r *R) int {
			b.UnsafeAppend(arrow.Date32FromTime(c.Date(r).Time()))
			return 0
		})
	case c.Decimal != nil:
		return appendEach(to.(*array.Decimal128Builder), func(b *array.Decimal128Builder, r *R) int {
			b.UnsafeAppend(decimal128.FromI64(int64(*c.Decimal(r))))
			return 0
		})
	case c.Float != nil:
		return appendEach(to.(*array.Float64Builder), func(b *array.Float64Builder, r *R) int {
			b.UnsafeAppend(*c.Float(r))
			return 0
		})
	case c.OptFloat != nil:
		return appendEach(to.(*array.Float64Builder), func(b *array.Float64Builder, r *R) int {
			if v, ok := c.OptFloat(r).Value(); ok {
				b.UnsafeAppend(v)
			} else {
				b.UnsafeAppendBoolToBitmap(false)
			}
			return 0
		})
	case c.OptInt != nil:
		return appendEach(to.(*array.Int64Builder), func(b *array.Int64Builder, r *R) int {
			if v, ok := c.OptInt(r).Value(); ok {
				b.UnsafeAppend(v)
			} else {
				b.UnsafeAppendBoolToBitmap(false)
			}
			return 0
		})
	case c.List != nil:
		return appendLists(c, to.(*array.ListBuilder))
	}
	return appendMetrics(c, to.(*array.MapBuilder))
}

// appendEach calls add for each record. The builder has room for them.
func appendEach[R any, B array.Builder](to B, add func(B, *R) int) appender[R] {
	return func(records []R) (bytes int) {
		for i := range records {
			bytes += add(to, &records[i])
		}
		return bytes
	}
}

func appendTexts[R any](c *mds.Column[R], to array.Builder) appender[R] {
	nullable := c.Optional() && c.Role == mds.Value
	if to, ok := to.(*array.BinaryDictionaryBuilder); ok {
		var scratch []byte
		return appendEach(to, func(b *array.BinaryDictionaryBuilder, r *R) int {
			scratch = append(scratch[:0], *c.Text(r)...)
			if err := b.Append(scratch); err != nil {
				panic(err) // of a dictionary of more than 2³¹ entries
			}
			return 0
		})
	}
	return appendEach(to.(*array.StringBuilder), func(b *array.StringBuilder, r *R) int {
		text := *c.Text(r)
		if text == "" && nullable {
			b.AppendNull()
		} else {
			b.Append(text)
		}
		return len(text)
	})
}

func appendLists[R any](c *mds.Column[R], to *array.ListBuilder) appender[R] {
	items := to.ValueBuilder().(*array.StringBuilder)
	return appendEach(to, func(b *array.ListBuilder, r *R) (bytes int) {
		list := *c.List(r)
		if len(list) == 0 {
			b.AppendNull()
			return 0
		}
		b.Append(true)
		for _, item := range list {
			items.Append(item)
			bytes += len(item)
		}
		return bytes
	})
}

// appendMetrics appends figures in the order of their names.
func appendMetrics[R any](c *mds.Column[R], to *array.MapBuilder) appender[R] {
	keys, figures := to.KeyBuilder().(*array.StringBuilder), to.ItemBuilder().(*array.Float64Builder)
	var names []string
	return appendEach(to, func(b *array.MapBuilder, r *R) (bytes int) {
		metrics := *c.Metrics(r)
		if len(metrics) == 0 {
			b.AppendNull()
			return 0
		}
		names = names[:0]
		for name := range metrics {
			names = append(names, name)
			bytes += len(name)
		}
		slices.Sort(names)
		b.Append(true)
		for _, name := range names {
			keys.Append(name)
			figures.Append(metrics[name])
		}
		return bytes
	})
}
