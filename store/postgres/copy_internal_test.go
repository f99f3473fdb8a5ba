package postgres

import (
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

// TestCopyEnds reads a copy after it has failed, as the driver's goroutine may: nothing
// comes, and the memory is another batch's by then.
func TestCopyEnds(t *testing.T) {
	table := newTable(&Store{}, mds.SchemaOf[mds.Bar]())
	records := []mds.Bar{{TS: time.Unix(0, 0)}}
	source := &copySource[mds.Bar]{table: table, records: records, rows: []row{{}}}
	_ = source.end()
	if n, err := source.Read(make([]byte, 1000)); n != 0 || err == nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}
