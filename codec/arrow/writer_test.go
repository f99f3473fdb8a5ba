package arrow_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	arrowgo "github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec/arrow"
)

// TestSchema is the columns that others see.
func TestSchema(t *testing.T) {
	for name, tt := range map[string]struct {
		schema *arrowgo.Schema
		want   []string
	}{
		"bars": {arrow.Schema[mds.Bar](false), []string{
			"vendor utf8", "symbol utf8", "timeframe utf8", "ts timestamp[us, tz=UTC]", "open float64?", "high float64?", "low float64?",
			"close float64", "volume float64?", "vwap float64?", "trade_count int64?",
		}},
		"dictionaries": {arrow.Schema[mds.Bar](true), []string{
			"vendor dictionary<values=utf8, indices=int32, ordered=false>", "symbol dictionary<values=utf8, indices=int32, ordered=false>",
			"timeframe dictionary<values=utf8, indices=int32, ordered=false>", "ts timestamp[us, tz=UTC]", "open float64?", "high float64?",
			"low float64?", "close float64", "volume float64?", "vwap float64?", "trade_count int64?",
		}},
		"options": {arrow.Schema[mds.OptionSnap](false), []string{
			"vendor utf8", "symbol utf8", "expiry date32", "option_type utf8", "strike decimal(18, 9)", "ts timestamp[us, tz=UTC]",
			"bid float64?", "ask float64?", "last float64?", "iv float64?", "delta float64?", "gamma float64?", "theta float64?",
			"vega float64?", "rho float64?", "open_interest float64?", "volume float64?", "spot float64?",
		}},
		"fundamentals": {arrow.Schema[mds.Fundamentals](false), []string{
			"vendor utf8", "symbol utf8", "period utf8", "filed_at timestamp[us, tz=UTC]", "asof date32", "revenue float64?",
			"operating_income float64?", "net_income float64?", "total_assets float64?", "total_liabilities float64?", "total_equity float64?",
			"eps float64?", "shares_outstanding float64?", "currency utf8?", "form utf8?", "accession utf8?",
			"extra map<utf8, float64, items_nullable>?",
		}},
		"news": {arrow.Schema[mds.News](false), []string{
			"vendor utf8", "id utf8", "published_at timestamp[us, tz=UTC]", "title utf8", "symbols list<item: utf8, nullable>?", "url utf8?",
			"summary utf8?", "sentiment_score float64?",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range tt.schema.Fields() {
				column := f.Name + " " + f.Type.String()
				if f.Nullable {
					column += "?"
				}
				got = append(got, column)
			}
			same(t, got, tt.want)
		})
	}
}

// batches are the rows of the batches of a stream.
func batches(t *testing.T, stream []byte) []int {
	t.Helper()
	r, err := ipc.NewReader(bytes.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	var rows []int
	for r.Next() {
		rows = append(rows, int(r.RecordBatch().NumRows()))
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return rows
}

// TestBatches cuts batches by rows, and by bytes long before offsets run over.
func TestBatches(t *testing.T) {
	same(t, batches(t, write(t, benchBars(20_000), arrow.WriterOptions{})), []int{8192, 8192, 3616})
	same(t, batches(t, write(t, benchBars(7), arrow.WriterOptions{BatchRows: 3})), []int{3, 3, 1})
	same(t, batches(t, write[mds.Bar](t, nil, arrow.WriterOptions{})), nil)

	news := make([]mds.News, 300)
	for i := range news {
		news[i] = mds.News{Vendor: "v", ID: "1", PublishedAt: time.Unix(0, 0), Title: "t", Summary: strings.Repeat("x", 256<<10)}
	}
	same(t, batches(t, write(t, news, arrow.WriterOptions{})), []int{128, 128, 44})
}

// TestAppend writes records one by one, and brings them on their way at a flush.
func TestAppend(t *testing.T) {
	bars := benchBars(10)
	var out bytes.Buffer
	w, err := arrow.NewWriter[mds.Bar](&out, arrow.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range bars {
		if err := w.Append(&bars[i]); err != nil {
			t.Fatal(err)
		}
		if i == 5 {
			before := out.Len()
			if err := w.Flush(); err != nil || out.Len() == before {
				t.Errorf("a flush wrote nothing: %v", err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	same(t, batches(t, out.Bytes()), []int{6, 4})
	got, _, err := read[mds.Bar](&out, arrow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, bars)
}

// brokenWriter takes some bytes.
type brokenWriter struct{ left int }

var errFull = errors.New("the disk is full")

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// TestWriterErrors says what went wrong, and goes on saying so.
func TestWriterErrors(t *testing.T) {
	for name, opt := range map[string]arrow.WriterOptions{
		`compression "gzip": use lz4, zstd or none`: {Compression: "gzip"},
		"batches of -1 rows: use 1 to 1048576":      {BatchRows: -1},
		"batches of 2000000 rows: use 1 to 1048576": {BatchRows: 2_000_000},
	} {
		if _, err := arrow.NewWriter[mds.Bar](io.Discard, opt); err == nil || err.Error() != name {
			t.Errorf("the error is %v, not %s", err, name)
		}
	}
	t.Run("a full disk", func(t *testing.T) {
		w, err := arrow.NewWriter[mds.Bar](&brokenWriter{left: 5000}, arrow.WriterOptions{BatchRows: 10})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(benchBars(1000)); !errors.Is(err, errFull) {
			t.Errorf("writing: %v", err)
		}
		if err := w.Write(benchBars(1)); !errors.Is(err, errFull) {
			t.Errorf("writing again: %v", err)
		}
		if err := w.Close(); !errors.Is(err, errFull) {
			t.Errorf("closing: %v", err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		w, err := arrow.NewWriter[mds.Bar](io.Discard, arrow.WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Close(), w.Close()); err != nil {
			t.Error(err)
		}
		if err := w.Write(benchBars(1)); err == nil || err.Error() != "the stream is closed" {
			t.Errorf("writing after that: %v", err)
		}
	})
}
