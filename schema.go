package mds

import "time"

// Role says what a column is for.
type Role int

const (
	// Identity columns name the series that a record belongs to.
	Identity Role = iota
	// Time is the column that, with the identity, makes a record's key.
	Time
	// Value columns are what a later record with the same key replaces.
	Value
)

// Column describes one field of the record type R. Exactly one of the
// accessors Text, Time, Float, OptFloat and OptInt is set; it gives the
// column its type and returns a pointer to the field.
type Column[R any] struct {
	// Name is the column's name in SQL, CSV and NDJSON.
	Name string
	// Doc says what the column means, with its unit.
	Doc  string
	Role Role
	// Aliases are other names that vendors use, in lower case.
	Aliases []string

	// Parse brings text as a vendor writes it into the column's form; nil takes
	// it as it is. For Text columns only.
	Parse func(string) (string, error)

	Text     func(*R) *string
	Time     func(*R) *time.Time
	Float    func(*R) *float64
	OptFloat func(*R) *Opt[float64]
	OptInt   func(*R) *Opt[int64]
}

// Optional reports whether the column's value may be missing.
func (c *Column[R]) Optional() bool { return c.OptFloat != nil || c.OptInt != nil }

// Schema is the one description of a record kind. SQL statements and codecs
// are derived from it; nothing else says what columns a kind has.
type Schema[R any] struct {
	// Kind is the plural name, such as "bars": the word in commands, metrics
	// and the name of the view that people query.
	Kind string
	// Noun is the singular, such as "bar"; tables are named after it.
	Noun string
	// Columns are the identity columns, then the time column, then the values.
	Columns []Column[R]

	// Validate returns an [*InvalidError] that names every fault of a record.
	Validate func(*R) error
	// Normalize brings a valid record into the form that is stored.
	Normalize func(*R)
	// Micros is the stored time of a valid record: microseconds since
	// 1970-01-01 00:00 UTC. It agrees with Normalize.
	Micros func(*R) int64
	// Timeframe is the span of a record, nil for kinds that have none.
	Timeframe func(*R) Timeframe
	// Warning names something odd about a valid record that is stored as it
	// came, or "". Nil for kinds without warnings.
	Warning func(*R) string
}

// Record is a type that can be stored: it describes itself.
type Record[R any] interface {
	Schema() Schema[R]
}

// SchemaOf returns the schema of R.
func SchemaOf[R Record[R]]() Schema[R] {
	var zero R
	return zero.Schema()
}

// ByRole returns the columns of one role, in order.
func (s *Schema[R]) ByRole(role Role) []*Column[R] {
	var columns []*Column[R]
	for i := range s.Columns {
		if s.Columns[i].Role == role {
			columns = append(columns, &s.Columns[i])
		}
	}
	return columns
}

// Lookup returns the column of a name, or nil.
func (s *Schema[R]) Lookup(name string) *Column[R] {
	for i := range s.Columns {
		if s.Columns[i].Name == name {
			return &s.Columns[i]
		}
	}
	return nil
}
