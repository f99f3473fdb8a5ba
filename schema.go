package mds

import (
	"reflect"
	"slices"
	"time"
)

// Role says what a column is for.
type Role int

const (
	// Identity columns name the series that a record belongs to. Stores keep
	// them once a series.
	Identity Role = iota
	// Key columns tell the records of one series and time apart. Stores keep
	// them with each record.
	Key
	// Revision is the key column that tells versions of one fact apart: the
	// time it became known. At most one column has it.
	Revision
	// Time is the column that windows and the order of queries go by. With the
	// columns above it makes a record's key, unless [Schema.TimeIsValue].
	Time
	// Value columns are what a later record with the same key replaces.
	Value
)

// Schema is the one description of a record kind. SQL statements, codecs and
// commands are derived from it; nothing else says what columns a kind has.
type Schema[R any] struct {
	// Kind is the plural name, such as "bars": the word in commands, metrics
	// and the name of the view that people query.
	Kind string
	// Noun is the singular, such as "bar" or "news item"; tables are named
	// after it, with '_' for spaces.
	Noun string
	// Columns are the identity columns, then the key columns, the time column
	// and the values.
	Columns []Column[R]
	// TimeIsValue says that the time is no part of the key: a record with
	// another time replaces the one before.
	TimeIsValue bool

	// Validate returns an [*InvalidError] that names every fault of a record.
	Validate func(*R) error
	// Normalize brings a valid record into the form that is stored, and fills
	// in what can be derived. It never changes a number.
	Normalize func(*R)
	// Timeframe is the span of a record, nil for kinds that have none.
	Timeframe func(*R) Timeframe
	// Warning names something odd about a valid record, before it is normalised,
	// that is stored as it came, or "". Nil for kinds without warnings.
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

// ByRole returns the columns of some roles, in order.
func (s *Schema[R]) ByRole(roles ...Role) []*Column[R] {
	var columns []*Column[R]
	for i := range s.Columns {
		for _, role := range roles {
			if s.Columns[i].Role == role {
				columns = append(columns, &s.Columns[i])
			}
		}
	}
	return columns
}

// TimeColumn returns the time column.
func (s *Schema[R]) TimeColumn() *Column[R] {
	for i := range s.Columns {
		if s.Columns[i].Role == Time {
			return &s.Columns[i]
		}
	}
	panic("mds: kind " + s.Kind + " has no time column")
}

// RevisionColumn returns the revision column, nil for kinds without versions.
func (s *Schema[R]) RevisionColumn() *Column[R] {
	for _, c := range s.ByRole(Revision) {
		return c
	}
	return nil
}

// SymbolColumn returns the column that a selection of symbols goes by, nil for
// kinds without one.
func (s *Schema[R]) SymbolColumn() *Column[R] {
	if c := s.Lookup("symbol"); c != nil {
		return c
	}
	return s.Lookup("symbols")
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

// Dated reports whether all records of the kind are labelled by dates rather
// than by instants.
func (s *Schema[R]) Dated() bool { return s.TimeColumn().Date != nil }

// Micros returns the stored time of a valid record: microseconds since
// 1970-01-01 00:00 UTC. Calendar bars have 00:00 UTC of the date they show.
func (s *Schema[R]) Micros(r *R) int64 {
	c := s.TimeColumn()
	if c.Date != nil {
		return c.Date(r).Time().UnixMicro()
	}
	t := *c.Time(r)
	if s.Timeframe != nil {
		if tf := s.Timeframe(r); tf.Calendar() {
			return tf.Truncate(t).UnixMicro()
		}
	}
	return t.UnixMicro()
}

// SetMicros sets the time of a record, UTC.
func (s *Schema[R]) SetMicros(r *R, micros int64) {
	c := s.TimeColumn()
	t := time.UnixMicro(micros).UTC()
	if c.Date != nil {
		*c.Date(r) = DateOf(t)
		return
	}
	*c.Time(r) = t
}

// Size is the number of bytes that a record takes, roughly: what bounds on
// memory go by.
func (s *Schema[R]) Size(r *R) int {
	n := 0
	for i := range s.Columns {
		n += s.Columns[i].size(r)
	}
	return n
}

// Sizer returns a function for the memory that a record takes, in bytes, roughly: the
// struct and what it points to. What bounds on many records go by is made once.
func (s *Schema[R]) Sizer() func(*R) int {
	fixed := int(reflect.TypeFor[R]().Size())
	var columns []*Column[R] // that point to more
	for i := range s.Columns {
		if c := &s.Columns[i]; c.Text != nil || c.List != nil || c.Metrics != nil {
			columns = append(columns, c)
		}
	}
	return func(r *R) int {
		n := fixed
		for _, c := range columns {
			if c.Text != nil {
				n += len(*c.Text(r))
				continue
			}
			n += c.size(r)
		}
		return n
	}
}

// Plain reports that records are numbers beside their identity and time: they are
// small, and Normalize changes nothing but their identity.
func (s *Schema[R]) Plain() bool {
	return !slices.ContainsFunc(s.ByRole(Key, Revision, Value), func(c *Column[R]) bool {
		return c.Role != Value || !c.Numeric()
	})
}

// Equal reports whether two records in their stored form have equal columns.
func (s *Schema[R]) Equal(a, b *R) bool {
	for i := range s.Columns {
		if !s.Columns[i].Equal(a, b) {
			return false
		}
	}
	return true
}

// Compare orders two records in their stored form by columns.
func Compare[R any](columns []*Column[R], a, b *R) int {
	for _, c := range columns {
		if order := c.Compare(a, b); order != 0 {
			return order
		}
	}
	return 0
}
