package postgres

import (
	"fmt"
	"slices"
	"strings"

	"github.com/marketdatastore/mds"
)

// Table is one kind of record in a store. It is safe for concurrent use.
type Table[R mds.Record[R]] struct {
	store    *Store
	schema   mds.Schema[R]
	noun     string
	series   string // table of identities
	identity []*mds.Column[R]
	keys     []*mds.Column[R] // the revision last
	time     *mds.Column[R]
	values   []*mds.Column[R]

	timeName string   // of the time column, quoted
	key      []string // columns of the facts' key, quoted: series, keys, time
	columns  []string // of facts, quoted: series_id, keys, time, values, updated_at
	encode   []encoder[R]
	// A row is read as the columns of the identity, keys, time and values.
	decode   []decoder[R]
	read     string
	idDecode []decoder[R]
	readID   string
}

// NewTable returns the table of kind R.
func NewTable[R mds.Record[R]](s *Store) *Table[R] {
	t := &Table[R]{store: s, schema: mds.SchemaOf[R]()}
	t.noun = strings.ReplaceAll(t.schema.Noun, " ", "_")
	t.series = "mds_internal." + t.noun + "_series"
	t.identity = t.schema.ByRole(mds.Identity)
	t.keys = slices.Concat(t.schema.ByRole(mds.Key), t.schema.ByRole(mds.Revision))
	t.time = t.schema.TimeColumn()
	t.values = t.schema.ByRole(mds.Value)
	t.timeName = quote(t.time.Name)
	t.key = append([]string{"series_id"}, names(t.keys)...)
	if !t.schema.TimeIsValue {
		t.key = append(t.key, t.timeName)
	}
	facts := slices.Concat(t.keys, []*mds.Column[R]{t.time}, t.values)
	t.columns = slices.Concat([]string{"series_id"}, names(facts), []string{"updated_at"})
	for _, c := range facts {
		if c == t.time && c.Time != nil {
			// Calendar bars are stored by their date.
			t.encode = append(t.encode, func(dst []byte, r *R) []byte { return appendMicros(dst, t.schema.Micros(r)) })
			continue
		}
		t.encode = append(t.encode, encoderOf(c))
	}
	var ids, read []string
	for _, c := range t.identity {
		ids = append(ids, readExpression(c, "s"))
		t.idDecode = append(t.idDecode, decoderOf(c))
	}
	t.decode = slices.Clone(t.idDecode)
	for _, c := range facts {
		read = append(read, readExpression(c, "f"))
		t.decode = append(t.decode, decoderOf(c))
	}
	t.readID = strings.Join(ids, ", ")
	t.read = strings.Join(slices.Concat(ids, read), ", ")
	return t
}

// tables are where the facts of some series lie.
type tables struct {
	name     string
	calendar bool // its times are dates
	where    string
}

// tables lists the tables of facts, of bars those of one timeframe, or of all for "".
func (t *Table[R]) tables(timeframe string) []tables {
	if t.schema.Timeframe == nil {
		return []tables{{name: "mds_internal." + t.noun + "_facts", calendar: t.schema.Dated()}}
	}
	var list []tables
	for _, tf := range mds.Timeframes() {
		if timeframe == "" || timeframe == string(tf) {
			list = append(list, tables{
				name:     "mds_internal." + t.noun + "_facts_" + string(tf),
				calendar: tf.Calendar(),
				where:    fmt.Sprintf("s.timeframe = '%s'", tf),
			})
		}
	}
	return list
}

// tableOf is where a record's fact lies.
func (t *Table[R]) tableOf(r *R) string {
	if t.schema.Timeframe == nil {
		return ""
	}
	return string(t.schema.Timeframe(r))
}

func names[R any](columns []*mds.Column[R]) []string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = quote(c.Name)
	}
	return out
}

func each(columns []string, format, separator string) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = fmt.Sprintf(format, c)
	}
	return strings.Join(parts, separator)
}
