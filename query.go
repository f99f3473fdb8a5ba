package mds

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Receipt says what became of the records of one batch. They add up to the
// batch's length.
type Receipt struct {
	// Written records are new in the store, or changed a stored row.
	Written int64 `json:"written"`
	// Unchanged records equal what the store held already; nothing was written.
	Unchanged int64 `json:"unchanged"`
	// Superseded records were followed by one with the same key, in the same batch
	// or in one of another writer that was stored with it, or came late, when newer
	// data was stored already.
	Superseded int64 `json:"superseded"`
	// Modes are the ways in which the engine wrote, which make no difference to what
	// is stored.
	Modes WriteModes `json:"-"`
}

// Add returns the sum of two receipts, with the modes of both.
func (r Receipt) Add(o Receipt) Receipt {
	return Receipt{
		Written:    r.Written + o.Written,
		Unchanged:  r.Unchanged + o.Unchanged,
		Superseded: r.Superseded + o.Superseded,
		Modes:      r.Modes | o.Modes,
	}
}

// WriteModes is a set of the ways in which batches are written.
type WriteModes uint8

// The ways of writing, to be combined with |.
const (
	// WroteInsert inserts what cannot be there yet (DuckDB).
	WroteInsert WriteModes = 1 << iota
	// WroteCopy copies what is not there yet straight into the table (PostgreSQL).
	WroteCopy
	// WroteMerge compares a staged batch with what is there, and writes what differs.
	WroteMerge
	// WroteUnnest does so with the batch as the arguments of one statement (PostgreSQL).
	WroteUnnest
)

// String lists the modes, such as "copy+merge"; "none" where nothing was written.
func (m WriteModes) String() string {
	var names []string
	for i, name := range []string{"insert", "copy", "merge", "unnest"} {
		if m&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, "+")
}

// Selection picks stored records. The zero value picks all of a kind.
type Selection struct {
	// Vendor picks one vendor; "" picks all.
	Vendor string
	// Symbols picks these symbols; none picks all. Case does not matter. A news
	// item is picked if it is about one of them.
	Symbols []string
	// Timeframe picks one timeframe; "" picks all.
	Timeframe Timeframe
	// Where picks by other identity columns, such as
	// {"expiry": {"2024-03-15"}, "option_type": {"C"}}: a record must have one of
	// the values of each.
	Where map[string][]string
	// Start is the first instant, inclusive; zero means from the beginning.
	//
	// Calendar bars and fundamentals are labelled by dates, which begin at
	// midnight in the location of Start and End: a window from 2020-11-27 00:00
	// in New York holds the daily bar of 2020-11-27.
	Start time.Time
	// End is the first instant after the window; zero means to the end. A
	// window that ends before it starts holds nothing.
	End time.Time
	// KnownAt reads fundamentals as they were known at an instant, that
	// included: of each period one record, in which every figure is that of the
	// newest filing until then which tells it. FiledAt and the filing's own
	// columns are of the newest filing. Zero reads each filing's record.
	//
	// A filing known by its date alone counts from 00:00 UTC of that date, which
	// may be hours before it came out: to be sure, look from the day before.
	KnownAt time.Time
}

// Condition picks records by one column: those whose column equals that of one
// of Values, or, of a List column, holds one of its items.
type Condition[R any] struct {
	Column *Column[R]
	// Values have the column set and nothing else.
	Values []R
}

// Conditions checks a selection against the kind, and returns what it asks of
// columns in their stored form. It refuses a column that the kind does not
// have, and a value that no record could have.
func (s *Schema[R]) Conditions(sel Selection) ([]Condition[R], error) {
	sel, err := s.Expand(sel)
	if err != nil {
		return nil, err
	}
	if sel.Timeframe != "" && !sel.Timeframe.Valid() {
		_, err := ParseTimeframe(string(sel.Timeframe))
		if err == nil {
			err = fmt.Errorf("%w in its standard spelling: %q; use ParseTimeframe", ErrTimeframe, sel.Timeframe)
		}
		return nil, err
	}
	if !sel.KnownAt.IsZero() && s.RevisionColumn() == nil {
		return nil, fmt.Errorf("%s have no versions to be known at a time", s.Kind)
	}
	where := make(map[string][]string)
	if sel.Vendor != "" {
		where["vendor"] = []string{NormalizeVendor(sel.Vendor)}
	}
	if sel.Timeframe != "" {
		where["timeframe"] = []string{string(sel.Timeframe)}
	}
	if len(sel.Symbols) > 0 {
		name := "symbol"
		if c := s.SymbolColumn(); c != nil {
			name = c.Name
		}
		for _, symbol := range sel.Symbols {
			where[name] = append(where[name], NormalizeSymbol(symbol))
		}
	}
	given := len(where)
	for name, values := range sel.Where {
		if _, twice := where[name]; twice {
			return nil, fmt.Errorf("%s is picked twice", name)
		}
		if c := s.Lookup(name); len(values) > 0 && (c == nil || c.Role == Time || c.Role == Value) {
			return nil, fmt.Errorf("%s have no identity column %q to pick by", s.Kind, name)
		}
		if len(values) > 0 {
			where[name] = values
			given++
		}
	}
	var conditions []Condition[R]
	for i := range s.Columns {
		c := &s.Columns[i]
		values, ok := where[c.Name]
		if !ok {
			continue
		}
		condition := Condition[R]{Column: c}
		for _, value := range values {
			var r R
			switch {
			case c.List != nil:
				*c.List(&r) = []string{value}
			case c.Name == "vendor": // any text may be asked for
				*c.Text(&r) = NormalizeVendor(value)
			case c.Name == "symbol":
				*c.Text(&r) = NormalizeSymbol(value)
			default:
				if err := c.SetText(&r, value); err != nil {
					return nil, fmt.Errorf("%s: %w", c.Name, err)
				}
			}
			condition.Values = append(condition.Values, r)
		}
		conditions = append(conditions, condition)
	}
	if len(conditions) < given {
		for _, name := range []string{"vendor", "symbol", "timeframe"} {
			if _, ok := where[name]; ok && s.Lookup(name) == nil {
				return nil, fmt.Errorf("%s have no %s to pick by", s.Kind, name)
			}
		}
	}
	return conditions, nil
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
		if t.After(midnight(date, t.Location())) {
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

// Expand resolves a symbol that stands for more, as an OCC symbol does for its
// contract, into conditions on the columns it tells of. It refuses several such
// symbols, which no one condition picks.
func (s *Schema[R]) Expand(sel Selection) (Selection, error) {
	symbol := s.Lookup("symbol")
	derived := slices.DeleteFunc(s.ByRole(Identity), func(c *Column[R]) bool { return !c.Derived })
	if symbol == nil || len(derived) == 0 {
		return sel, nil
	}
	var nothing R
	s.Normalize(&nothing)
	for _, given := range sel.Symbols {
		var r R
		*symbol.Text(&r) = NormalizeSymbol(given)
		s.Normalize(&r)
		told := slices.DeleteFunc(slices.Clone(derived), func(c *Column[R]) bool { return c.Equal(&r, &nothing) })
		if len(told) == 0 {
			continue
		}
		if len(sel.Symbols) > 1 {
			return sel, fmt.Errorf("%s stands for one of the %s: pick it alone, or several by their columns", NormalizeSymbol(given), s.Kind)
		}
		where := maps.Clone(sel.Where)
		if where == nil {
			where = make(map[string][]string)
		}
		sel.Symbols = []string{*symbol.Text(&r)}
		for _, c := range told {
			value := string(c.AppendText(nil, &r))
			if have := where[c.Name]; len(have) > 0 && !slices.Contains(have, value) {
				return sel, fmt.Errorf("%s has the %s %s, and another is asked for", NormalizeSymbol(given), strings.ReplaceAll(c.Name, "_", " "), value)
			}
			where[c.Name] = []string{value}
		}
		sel.Where = where
	}
	return sel, nil
}

// Query is a windowed read. Records come in order of time; those of one
// instant in order of vendor, symbol and the rest of their identity.
type Query struct {
	Selection
	// ByIdentity orders records by vendor, symbol and the rest of their
	// identity, then by time.
	ByIdentity bool
	// Descending turns the whole order round.
	Descending bool
	// Unordered lets records come in the order in which they are read fastest, which
	// need not be the same twice. It is for reading much; ByIdentity and Descending
	// mean nothing then. What was known at a time is always in order.
	Unordered bool
	// Limit is the most records to return; 0 or less means all.
	Limit int
}

// Series is one identity with what the store holds of it.
type Series[R any] struct {
	// Identity has the columns of role [Identity] set and nothing else.
	Identity R
	// Rows counts records, of fundamentals those of every filing.
	Rows int64
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

// Compaction says what a compaction of one kind did.
type Compaction struct {
	Kind string `json:"kind"`
	// Moved is how many rows were put in order.
	Moved int64 `json:"moved"`
	// Steps is in how many transactions.
	Steps int `json:"steps"`
}
