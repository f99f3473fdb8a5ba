package duckdb

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/marketdatastore/mds"
)

// statements are the SQL texts of one kind, derived from its schema. The
// tables they name are made by the migrations.
type statements struct {
	kind     string
	series   string // table of identities
	facts    string // table of keys, times and values
	function string // table function that yields the batch being written

	identity []string // identity columns
	keys     []string // key columns, the revision last
	revision string   // the revision column, "" for kinds without
	time     string   // time column
	columns  string   // what a fact is read by: series id, time, keys, and values or the row's id
	wide     string   // reads ids, times and values of rows; without its condition

	readIdentity string // identity columns as they are read
	stats        string // count, first and last time of facts

	loadSeries   string
	insertSeries string
	marks        string // series id, first and last time of each series' facts
	info         string
}

func newStatements[R any](schema mds.Schema[R]) statements {
	noun := strings.ReplaceAll(schema.Noun, " ", "_")
	q := statements{
		kind:     schema.Kind,
		series:   noun + "_series",
		facts:    noun + "_facts",
		function: "mds_batch_" + schema.Kind,
		identity: names(schema.ByRole(mds.Identity)),
		keys:     names(slices.Concat(schema.ByRole(mds.Key), schema.ByRole(mds.Revision))),
		time:     quote(schema.TimeColumn().Name),
	}
	if c := schema.RevisionColumn(); c != nil {
		q.revision = quote(c.Name)
	}
	read := []string{"series_id", micros(schema.TimeColumn().Name)}
	wide := []string{"rowid", "series_id", micros(schema.TimeColumn().Name)}
	for _, c := range schema.ByRole(mds.Value) {
		wide = append(wide, readExpression(c))
	}
	if !schema.Plain() {
		read = append(read, "rowid")
	}
	for _, c := range schema.ByRole(mds.Key, mds.Revision) {
		read = append(read, readExpression(c))
	}
	if schema.Plain() {
		read = append(read, wide[3:]...)
	}
	q.columns = strings.Join(read, ", ")
	q.wide = fmt.Sprintf("SELECT %s FROM %s", strings.Join(wide, ", "), q.facts)
	identity := make([]string, 0, len(q.identity))
	for _, c := range schema.ByRole(mds.Identity) {
		identity = append(identity, readExpression(c))
	}
	q.loadSeries = fmt.Sprintf("SELECT id, %s FROM %s", strings.Join(identity, ", "), q.series)
	added := make([]string, 0, len(q.identity))
	for _, c := range schema.ByRole(mds.Identity) {
		added = append(added, batchExpression(c))
	}
	q.insertSeries = fmt.Sprintf("INSERT INTO %s (id, %s) SELECT series_id, %s FROM %s()", q.series, strings.Join(q.identity, ", "), strings.Join(added, ", "), q.function)
	q.marks = fmt.Sprintf("SELECT series_id, min(%[1]s), max(%[1]s) FROM %[2]s GROUP BY series_id", micros(schema.TimeColumn().Name), q.facts)
	q.readIdentity = strings.Join(identity, ", ")
	q.stats = fmt.Sprintf("count(*) AS n, min(%[1]s) AS first, max(%[1]s) AS last", micros(schema.TimeColumn().Name))
	q.info = fmt.Sprintf("SELECT count(DISTINCT series_id), count(*), min(%[2]s), max(%[2]s) FROM %[1]s", q.facts, micros(schema.TimeColumn().Name))
	return q
}

// micros reads a TIMESTAMP or DATE column as microseconds since 1970.
func micros(column string) string { return "epoch_us(" + quote(column) + "::TIMESTAMP)" }

// quote makes an identifier of a name, which may be a word of SQL (asof).
func quote(name string) string { return `"` + name + `"` }

// readExpression reads a column in the form that scanTargets takes.
func readExpression[R any](c *mds.Column[R]) string {
	switch {
	case c.Time != nil, c.Date != nil:
		return micros(c.Name)
	case c.Decimal != nil:
		return quote(c.Name) + "::VARCHAR"
	}
	return quote(c.Name)
}

// batchExpression turns a column of the batch function, whose times are
// microseconds, into that of the table.
func batchExpression[R any](c *mds.Column[R]) string {
	switch {
	case c.Time != nil:
		return fmt.Sprintf("make_timestamp(%s) AS %[1]s", quote(c.Name))
	case c.Date != nil:
		return fmt.Sprintf("make_timestamp(%s)::DATE AS %[1]s", quote(c.Name))
	case c.Metrics != nil:
		return fmt.Sprintf("map(%s, %s) AS %s", quote(namesOf(c.Name)), quote(valuesOf(c.Name)), quote(c.Name))
	}
	return quote(c.Name)
}

// argument returns the placeholder of a column's value and what goes there.
func argument[R any](c *mds.Column[R], r *R) (placeholder string, value any) {
	switch {
	case c.Time != nil:
		return "make_timestamp(?)", c.Time(r).UnixMicro()
	case c.Date != nil:
		return "make_timestamp(?)::DATE", c.Date(r).Time().UnixMicro()
	case c.Decimal != nil:
		return "?::DECIMAL(18,9)", c.Decimal(r).String()
	case c.List != nil:
		return "?", (*c.List(r))[0]
	}
	return "?", *c.Text(r)
}

// writeTexts are what is done with a batch. Each takes one argument, updated_at in
// microseconds, and that of late records a second one, the time that rows changed before
// which it replaces.
type writeTexts struct {
	insert string // rows of which none is stored
	merge  string // the diff-aware upsert: an equal row is not touched
	late   string // the same, and a row that changed since is not touched either
	equal  string // counts the rows that are stored as they are
}

// writeTexts are those for batches of some cells; the other columns are missing in
// every record.
func newWriteTexts[R any](q *statements, schema *mds.Schema[R], cells []cell[R]) writeTexts {
	key := slices.Concat([]string{"series_id"}, q.keys)
	replaced := names(schema.ByRole(mds.Value))
	if schema.TimeIsValue {
		replaced = append(replaced, q.time)
	} else {
		key = append(key, q.time)
	}
	read := []string{"series_id"}
	for _, c := range schema.ByRole(mds.Key, mds.Revision, mds.Time, mds.Value) {
		if c.Metrics == nil && !slices.ContainsFunc(cells, func(have cell[R]) bool { return have.name == c.Name }) {
			read = append(read, "NULL AS "+quote(c.Name))
			continue
		}
		read = append(read, batchExpression(c))
	}
	each := func(columns []string, format, separator string) string {
		parts := make([]string, len(columns))
		for i, c := range columns {
			parts[i] = fmt.Sprintf(format, c)
		}
		return strings.Join(parts, separator)
	}
	all := slices.Concat(key, replaced, []string{"updated_at"})
	plainKey := each(key, "f.%[1]s = b.%[1]s", " AND ")
	differ := each(replaced, "f.%[1]s IS DISTINCT FROM b.%[1]s", " OR ")
	source := fmt.Sprintf("(SELECT %s, make_timestamp(?) AS updated_at FROM %s()) b", strings.Join(read, ", "), q.function)
	merge := func(older string) string {
		return fmt.Sprintf(`
		MERGE INTO %s f
		USING %s
		ON %s
		WHEN MATCHED AND (%s)%s THEN UPDATE SET %s, updated_at = b.updated_at
		WHEN NOT MATCHED THEN INSERT (%s) VALUES (%s)`,
			q.facts, source,
			plainKey, differ, older, each(replaced, "%[1]s = b.%[1]s", ", "),
			strings.Join(all, ", "), each(all, "b.%s", ", "))
	}
	return writeTexts{
		insert: fmt.Sprintf("INSERT INTO %s (%s) SELECT %[2]s FROM %[3]s", q.facts, strings.Join(all, ", "), source),
		merge:  merge(""),
		late:   merge(" AND f.updated_at < make_timestamp(?)"),
		equal:  fmt.Sprintf("SELECT count(*) FROM %s f JOIN %s ON %s WHERE NOT (%s)", q.facts, source, plainKey, differ),
	}
}

// timeOrder is the order of queries, as far as facts know it: the database
// sorts by series id where identity is due.
//
// Of a single series it need not.
func (q *statements) timeOrder(single bool) []string {
	if single {
		return slices.Concat([]string{q.time}, q.keys)
	}
	return slices.Concat([]string{q.time, "series_id"}, q.keys)
}

// identityOrder is the order of one series' facts. What was known at a time has
// its versions next to each other.
func (q *statements) identityOrder(known bool) []string {
	if known {
		keys := slices.DeleteFunc(slices.Clone(q.keys), func(c string) bool { return c == q.revision })
		return append(keys, q.time, q.revision)
	}
	return append(slices.Clone(q.keys), q.time)
}

// page reads facts in order, from a cursor on where after has the
// placeholders of one.
func (q *statements) page(where string, order []string, descending bool, after []string, limit int) string {
	direction, past := " ASC", ">"
	if descending {
		direction, past = " DESC", "<"
	}
	if after != nil {
		// The first condition lets row groups be skipped, the second is exact.
		where += fmt.Sprintf(" AND %s %s= %s AND (%s) %s (%s)", order[0], past, after[0],
			strings.Join(order, ", "), past, strings.Join(after, ", "))
	}
	return fmt.Sprintf("SELECT %s FROM %s WHERE %s ORDER BY %s LIMIT %d",
		q.columns, q.facts, where, strings.Join(order, direction+", ")+direction, limit)
}

// latest reads the newest fact, all its versions, of each series and key. The
// arguments of where come twice.
func (q *statements) latest(where string) string {
	of := slices.DeleteFunc(slices.Concat([]string{"series_id"}, q.keys), func(c string) bool { return c == q.revision })
	return fmt.Sprintf(`
		WITH newest AS (SELECT %[1]s, max(%[2]s) AS %[2]s FROM %[3]s WHERE %[4]s GROUP BY %[1]s)
		SELECT %[5]s FROM %[3]s SEMI JOIN newest USING (%[1]s, %[2]s) WHERE %[4]s`,
		strings.Join(of, ", "), q.time, q.facts, where, q.columns)
}

// count counts facts, of what was known at a time one of each fact's versions.
func (q *statements) count(where string, known bool) string {
	if !known {
		return fmt.Sprintf("SELECT count(*) FROM %s WHERE %s", q.facts, where)
	}
	return fmt.Sprintf("SELECT count(*) FROM (SELECT DISTINCT series_id, %s FROM %s WHERE %s)",
		strings.Join(slices.DeleteFunc(q.identityOrder(true), func(c string) bool { return c == q.revision }), ", "), q.facts, where)
}

// rowsOfSeries counts the facts of each series, in order of identity.
func (q *statements) rowsOfSeries(where string, descending bool) string {
	direction := " ASC"
	if descending {
		direction = " DESC"
	}
	return fmt.Sprintf("SELECT id, n FROM (SELECT series_id, count(*) AS n FROM %s WHERE %s GROUP BY series_id) JOIN %s ON id = series_id ORDER BY %s",
		q.facts, where, q.series, strings.Join(q.identity, direction+", ")+direction)
}

// seriesStats reads count, first and last time of each series, and its
// identity, in order of identity.
func (q *statements) seriesStats(where string) string {
	return fmt.Sprintf("SELECT n, first, last, %s FROM (SELECT series_id, %s FROM %s WHERE %s GROUP BY series_id) JOIN %s ON id = series_id ORDER BY %s",
		q.readIdentity, q.stats, q.facts, where, q.series, strings.Join(q.identity, ", "))
}

// wideJoin reads the values of rows by their ids.
func (q *statements) wideJoin(ids []int64) string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = strconv.FormatInt(id, 10)
	}
	return q.wide + " SEMI JOIN (SELECT unnest([" + strings.Join(list, ", ") + "]::BIGINT[]) AS rowid) wanted USING (rowid)"
}

// inSeries restricts facts to the series of some ids.
func inSeries(ids []int64) string {
	if len(ids) == 0 {
		return "false"
	}
	literals := make([]string, len(ids))
	for i, id := range ids {
		literals[i] = strconv.FormatInt(id, 10)
	}
	return "series_id IN (" + strings.Join(literals, ", ") + ")"
}

// names are the columns' names as identifiers.
func names[R any](columns []*mds.Column[R]) []string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = quote(c.Name)
	}
	return out
}
