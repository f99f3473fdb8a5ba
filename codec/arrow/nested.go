package arrow

import (
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/marketdatastore/mds"
)

// listFiller fills a column of lists of texts.
type listFiller[R any] struct {
	to     *mds.Column[R]
	values array.ListLike
	items  func(i int) (string, bool)
}

func newListFiller[R any](c *mds.Column[R], t arrow.DataType) filler[R] {
	if _, ok := t.(arrow.ListLikeType); !ok {
		return nil
	}
	return &listFiller[R]{to: c}
}

func (f *listFiller[R]) bind(a arrow.Array) {
	f.values = a.(array.ListLike)
	f.items = textsOf(f.values.ListValues())
}

func (f *listFiller[R]) fill(records []R, at int, slow []bool) {
	for i := range records {
		items, ok := listItems(f.values, f.items, at+i)
		if ok {
			var err error
			items, err = f.to.ParseItems(items)
			ok = err == nil
		}
		slow[i] = slow[i] || !ok
		*f.to.List(&records[i]) = items
	}
}

// listItems returns the items of a row, nil where there are none. It reports false
// for a row of which one is missing.
func listItems(a array.ListLike, item func(int) (string, bool), row int) ([]string, bool) {
	if isNull(a, row) {
		return nil, true
	}
	start, end := a.ValueOffsets(row)
	if start == end {
		return nil, true
	}
	_ = item
	items := make([]string, 0, end-start)
	for i := start; i < end; i++ {
		text, ok := item(int(i))
		if !ok {
			return nil, false
		}
		items = append(items, strings.Clone(text))
	}
	return items, true
}

// textsOf returns a function that gives the text at a place, false where it is
// missing.
func textsOf(a arrow.Array) func(int) (string, bool) {
	if d, ok := a.(*array.Dictionary); ok {
		of, place := textsOf(d.Dictionary()), codes(d.Indices())
		return func(i int) (string, bool) {
			if d.IsNull(i) {
				return "", false
			}
			return of(place(i))
		}
	}
	values := a.(texts)
	return func(i int) (string, bool) {
		if isNull(values, i) {
			return "", false
		}
		return values.Value(i), true
	}
}

// metricsFiller fills a column of figures by name.
type metricsFiller[R any] struct {
	to     *mds.Column[R]
	values arrow.Array
}

func newMetricsFiller[R any](c *mds.Column[R], t arrow.DataType) filler[R] {
	if !metrics(t) {
		return nil
	}
	return &metricsFiller[R]{to: c}
}

func (f *metricsFiller[R]) bind(a arrow.Array) { f.values = a }

func (f *metricsFiller[R]) fill(records []R, at int, slow []bool) {
	for i := range records {
		figures, fault := figuresOf(f.values, at+i)
		slow[i] = slow[i] || fault != ""
		*f.to.Metrics(&records[i]) = figures
	}
}

// figuresOf returns the figures of a row, nil where there are none; one that is
// null is none. It says of a name that is there twice what the other formats do.
func figuresOf(a arrow.Array, row int) (figures map[string]float64, fault string) {
	if isNull(a, row) {
		return nil, ""
	}
	add := func(name string, values arrow.Array, i int) {
		if isNull(values, i) {
			return
		}
		if _, twice := figures[name]; twice {
			fault = "the metric " + strconv.Quote(name) + " is there twice"
			return
		}
		v, ok := figure(values, i)
		if !ok {
			fault = "the metric " + strconv.Quote(name) + " is out of range"
		}
		if figures == nil {
			figures = make(map[string]float64)
		}
		figures[strings.Clone(name)] = v
	}
	switch a := a.(type) {
	case *array.Map:
		start, end := a.ValueOffsets(row)
		name := textsOf(a.Keys())
		for i := start; i < end; i++ {
			text, ok := name(int(i))
			if !ok {
				return nil, "a figure's name is missing"
			}
			add(text, a.Items(), int(i))
		}
	case *array.Struct:
		fields := a.DataType().(*arrow.StructType)
		for i := range a.NumField() {
			add(fields.Field(i).Name, a.Field(i), row)
		}
	}
	return figures, fault
}

// figure is a number of an array.
func figure(a arrow.Array, i int) (float64, bool) {
	switch a := a.(type) {
	case *array.Float64:
		return a.Value(i), true
	case *array.Float32:
		return float64(a.Value(i)), true
	}
	v, err := strconv.ParseFloat(string(appendValue(nil, a, i)), 64)
	return v, err == nil
}
