package mds

import "time"

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
	Start time.Time
	// End is the first instant after the window; zero means to the end.
	End time.Time
}

// Query is a windowed read. Records come in order of time; those of one
// instant in order of vendor, symbol and the rest of their identity.
type Query struct {
	Selection
	// Descending turns the whole order round.
	Descending bool
	// Limit is the most records to return; 0 means all.
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
