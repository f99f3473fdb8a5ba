package postgres

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

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

	access    access // of batches
	tables    []tables
	tableOf   map[mds.Timeframe]int32 // index into tables
	ids       seriesIDs
	arrangers arrangers
	// replayed tells, by table, that the batch before was mostly there already: the next
	// one may be, too, and is merged without asking.
	replayed []atomic.Bool
	// unmerged tells, by table, that it takes no MERGE.
	unmerged []atomic.Bool

	timeName string   // of the time column, quoted
	key      []string // columns of the facts' key, quoted: series, keys, time
	columns  []string // of facts, quoted: series_id, keys, time, values, updated_at
	encode   []encoder[R]
	arrays   []arrayColumn[R] // the same columns as arguments of a statement
	// What is read of a series, and of its facts: keys, time and values.
	readID, readFacts    string
	idDecode, factDecode []decoder[R]
}

// NewTable returns the table of kind R.
func NewTable[R mds.Record[R]](s *Store) *Table[R] {
	schema := mds.SchemaOf[R]()
	if made, ok := s.tables.Load(schema.Kind); ok {
		if t, ok := made.(*Table[R]); ok {
			return t
		}
	}
	t := newTable(s, schema)
	if made, _ := s.tables.LoadOrStore(schema.Kind, t); made != any(t) {
		if first, ok := made.(*Table[R]); ok {
			return first
		}
	}
	return t
}

func newTable[R mds.Record[R]](s *Store, schema mds.Schema[R]) *Table[R] {
	t := &Table[R]{store: s, schema: schema, arrangers: make(arrangers, s.cfg.PoolMax)}
	t.noun = strings.ReplaceAll(t.schema.Noun, " ", "_")
	t.series = "mds_internal." + t.noun + "_series"
	t.access = batchWriting(s.cfg.StatementTimeout, t.series)
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
		encode := encoderOf(c)
		if c == t.time && c.Time != nil { // calendar bars are stored by their date
			encode = func(dst []byte, r *R) []byte { return appendMicros(dst, t.schema.Micros(r)) }
		}
		t.encode = append(t.encode, encode)
		t.arrays = append(t.arrays, arrayOf(c, encode))
	}
	var ids, read []string
	for _, c := range t.identity {
		ids = append(ids, readExpression(c, "s"))
		t.idDecode = append(t.idDecode, decoderOf(c))
	}
	for _, c := range facts {
		read = append(read, readExpression(c, "f"))
		t.factDecode = append(t.factDecode, decoderOf(c))
	}
	t.readID = strings.Join(ids, ", ")
	t.readFacts = strings.Join(read, ", ")
	t.makeTables()
	return t
}

// tables are where the facts of some series lie.
type tables struct {
	name      string
	timeframe mds.Timeframe // of bars
	calendar  bool          // its times are dates
	where     string

	// The statements that write it.
	probe, copy, stage, merge, unnest, upsert, upsertUnnest string
	late, lateUnnest                                        lateTexts
}

// makeTables lists the tables of facts, of bars one a timeframe.
func (t *Table[R]) makeTables() {
	if t.schema.Timeframe == nil {
		t.tables = []tables{{name: "mds_internal." + t.noun + "_facts", calendar: t.schema.Dated()}}
	} else {
		t.tableOf = make(map[mds.Timeframe]int32)
		for _, tf := range mds.Timeframes() {
			t.tableOf[tf] = int32(len(t.tables))
			table := tables{
				name:      "mds_internal." + t.noun + "_facts_" + string(tf),
				timeframe: tf,
				calendar:  tf.Calendar(),
				where:     fmt.Sprintf("s.timeframe = '%s'", tf),
			}
			if t.schema.Kind == "rollups" { // which are few: they are in one
				table.name = "mds_internal." + t.noun + "_facts"
			}
			t.tables = append(t.tables, table)
		}
	}
	t.replayed, t.unmerged = make([]atomic.Bool, len(t.tables)), make([]atomic.Bool, len(t.tables))
	columns := strings.Join(t.columns, ", ")
	for i := range t.tables {
		table := &t.tables[i]
		stage := strings.Replace(table.name, "mds_internal.", fmt.Sprintf("pg_temp.mds_stage_%d_", schemaVersion), 1)
		table.probe = fmt.Sprintf(`SELECT EXISTS (
			SELECT FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) AS b (id, first, last)
			CROSS JOIN LATERAL (SELECT FROM %s f WHERE f.series_id = b.id AND f.%s BETWEEN b.first AND b.last LIMIT 1) f)`, table.name, t.timeName)
		table.copy = fmt.Sprintf("COPY %s (%s) FROM STDIN (FORMAT binary)", table.name, columns)
		// A connection makes it once, one for each table: nothing is left in it by another.
		table.stage = fmt.Sprintf("CREATE TEMP TABLE IF NOT EXISTS %s (LIKE %s) ON COMMIT DELETE ROWS; COPY %[1]s (%[3]s) FROM STDIN (FORMAT binary)", stage, table.name, columns)
		staged, unnested := fmt.Sprintf("SELECT %s FROM %s ORDER BY %s", columns, stage, strings.Join(t.key, ", ")), t.unnested()
		table.merge, table.upsert = t.merge(table.name, staged), t.upsert(table.name, staged, "")
		table.unnest, table.upsertUnnest = t.merge(table.name, unnested), t.upsert(table.name, unnested, "")
		table.late, table.lateUnnest = t.lateTexts(table.name, staged, 0), t.lateTexts(table.name, unnested, 1+len(t.arrays))
	}
}

// replaced are the columns that a later record replaces, quoted.
func (t *Table[R]) replaced() []string {
	if t.schema.TimeIsValue {
		return append(names(t.values), t.timeName)
	}
	return names(t.values)
}

// merge upserts the rows of a query; equal ones are not touched.
func (t *Table[R]) merge(table, rows string) string {
	replaced := t.replaced()
	return fmt.Sprintf(`MERGE INTO %s f USING (%s) b ON %s
		WHEN MATCHED AND (%s) THEN UPDATE SET %s, updated_at = greatest(f.updated_at, b.updated_at)
		WHEN NOT MATCHED THEN INSERT (%s) VALUES (%s)`,
		table, rows, each(t.key, "f.%[1]s = b.%[1]s", " AND "),
		each(replaced, "f.%[1]s IS DISTINCT FROM b.%[1]s", " OR "), each(replaced, "%[1]s = b.%[1]s", ", "),
		strings.Join(t.columns, ", "), each(t.columns, "b.%s", ", "))
}

// upsert does the same where others insert the same keys, to rows that meet a condition,
// where there is one.
func (t *Table[R]) upsert(table, rows, condition string) string {
	replaced := t.replaced()
	return fmt.Sprintf(`INSERT INTO %s AS f (%s) %s ON CONFLICT (%s) DO UPDATE SET %s, updated_at = greatest(f.updated_at, excluded.updated_at) WHERE (%s)%s`,
		table, strings.Join(t.columns, ", "), rows, strings.Join(t.key, ", "),
		each(replaced, "%[1]s = excluded.%[1]s", ", "), each(replaced, "f.%[1]s IS DISTINCT FROM excluded.%[1]s", " OR "), condition)
}

// unnested is a query for the rows of arguments, an array for each column but the last,
// which is the time of the transaction.
func (t *Table[R]) unnested() string {
	facts := t.columns[1 : len(t.columns)-1]
	arrays, selected := []string{"$1::bigint[]"}, []string{"series_id"}
	for i, c := range t.arrays {
		arrays = append(arrays, fmt.Sprintf("$%d::%s[]", i+2, c.sqlType))
		selected = append(selected, facts[i]+c.cast+" AS "+facts[i])
	}
	order := []string{"series_id"}
	for _, c := range t.keys {
		by := quote(c.Name)
		if c.Text != nil {
			by += ` COLLATE "C"` // as the columns that staged rows are sorted by
		}
		order = append(order, by)
	}
	if !t.schema.TimeIsValue {
		order = append(order, t.timeName)
	}
	return fmt.Sprintf("SELECT %s, now() AS updated_at FROM unnest(%s) AS u (series_id, %s) ORDER BY %s",
		strings.Join(selected, ", "), strings.Join(arrays, ", "), strings.Join(facts, ", "), strings.Join(order, ", "))
}

// arrangers are those that no batch uses.
type arrangers chan *arranger

func (a arrangers) take() *arranger {
	select {
	case one := <-a:
		return one
	default:
		return &arranger{}
	}
}

func (a arrangers) give(one *arranger) {
	one.end()
	select {
	case a <- one:
	default:
	}
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
