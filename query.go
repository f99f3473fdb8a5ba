package mds

import (
	"fmt"
	"time"
)

// Receipt says what became of the records of one batch. They add up to the
// batch's length.
type Receipt struct {
	// Written records are new in the store, or changed a stored row.
	Written int64 `json:"written"`
	// Unchanged records equal what the store held already; nothing was written.
	Unchanged int64 `json:"unchanged"`
	// Superseded records were followed, in the same batch, by one with the
	// same key.
	Superseded int64 `json:"superseded"`
}

// Add returns the sum of two receipts.
func (r Receipt) Add(o Receipt) Receipt {
	return Receipt{
		Written:    r.Written + o.Written,
		Unchanged:  r.Unchanged + o.Unchanged,
		Superseded: r.Superseded + o.Superseded,
	}
}

// Selection picks stored records. The zero value picks all of a kind.
type Selection struct {
	// Vendor picks one vendor; "" picks all.
	Vendor string
	// Symbols picks these symbols; none picks all. Case does not matter.
	Symbols []string
	// Timeframe picks one timeframe; "" picks all.
	Timeframe Timeframe
	// Start is the first instant, inclusive; zero means from the beginning.
	//
	// Calendar bars are labelled by dates, which begin at midnight in the
	// location of Start and End: a window from 2020-11-27 00:00 in New York
	// holds the daily bar of 2020-11-27.
	Start time.Time
	// End is the first instant after the window; zero means to the end. A
	// window that ends before it starts holds nothing.
	End time.Time
}

// Validate refuses a timeframe that is not in its standard spelling, which no
// record could have.
func (s Selection) Validate() error {
	if s.Timeframe != "" && !s.Timeframe.Valid() {
		_, err := ParseTimeframe(string(s.Timeframe))
		if err == nil {
			err = fmt.Errorf("%w in its standard spelling: %q; use ParseTimeframe", ErrTimeframe, s.Timeframe)
		}
		return err
	}
	return nil
}

// Bound returns the first stored time, in microseconds since 1970, that is not
// before a bound of a window, for calendar bars or for others.
// Times outside the years that records may have are taken for the ends of
// these.
func Bound(t time.Time, calendar bool) int64 {
	if first := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC); t.Before(first) {
		t = first
	}
	if end := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC); t.After(end) {
		t = end
	}
	if calendar {
		year, month, day := t.Date()
		date := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
		if t.After(time.Date(year, month, day, 0, 0, 0, 0, t.Location())) {
			date = date.AddDate(0, 0, 1)
		}
		return date.UnixMicro()
	}
	micros := t.UnixMicro()
	if t.Nanosecond()%1000 != 0 {
		micros++
	}
	return micros
}

// Query is a windowed read. Records come in order of time; those of one
// instant in order of vendor, symbol and the rest of their identity.
type Query struct {
	Selection
	// Descending turns the whole order round.
	Descending bool
	// Limit is the most records to return; 0 or less means all.
	Limit int
}

// Series is one identity with what the store holds of it.
type Series[R any] struct {
	// Identity has the identity columns of R set and nothing else.
	Identity R
	Rows     int64
	// First and Last are the times of the oldest and newest record, UTC.
	First, Last time.Time
}

// StoreInfo describes the store of one tenant.
type StoreInfo struct {
	// Engine names the database and its version, such as "DuckDB v1.5.6".
	Engine string `json:"engine"`
	// Location is where the data is, without secrets.
	Location string `json:"location"`
	Tenant   string `json:"tenant"`
	TenantID string `json:"tenant_id"`
	// SchemaVersion is the newest migration applied.
	SchemaVersion int `json:"schema_version"`
	// Bytes is the size on disk, the write-ahead log included.
	Bytes int64 `json:"bytes"`
}

// KindInfo sums up one kind of record in a store.
type KindInfo struct {
	Kind   string `json:"kind"`
	Series int64  `json:"series"`
	Rows   int64  `json:"rows"`
	// First and Last are the times of the oldest and newest record, nil for an
	// empty kind.
	First *time.Time `json:"first"`
	Last  *time.Time `json:"last"`
}
