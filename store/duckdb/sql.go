package duckdb

import (
	"fmt"
	"strings"

	"github.com/marketdatastore/mds"
)

// statements are the SQL texts of one kind, derived from its schema. The
// tables they name are made by the migrations.
type statements struct {
	kind     string
	series   string // table of identities
	facts    string // table of values
	function string // table function that yields the batch being written

	identity []string // identity columns
	time     string   // time column
	values   []string // value columns

	loadSeries   string
	insertSeries string // without its VALUES rows
	merge        string // one argument: updated_at in microseconds
	seriesStats  string // without its WHERE
	info         string
}

func newStatements[R any](schema mds.Schema[R]) statements {
	q := statements{
		kind:     schema.Kind,
		series:   schema.Noun + "_series",
		facts:    schema.Noun + "_facts",
		function: "mds_batch_" + schema.Kind,
		identity: names(schema.ByRole(mds.Identity)),
		time:     schema.ByRole(mds.Time)[0].Name,
		values:   names(schema.ByRole(mds.Value)),
	}
	identity := strings.Join(q.identity, ", ")
	q.loadSeries = fmt.Sprintf("SELECT id, %s FROM %s", identity, q.series)
	q.insertSeries = fmt.Sprintf("INSERT INTO %s (id, %s) VALUES ", q.series, identity)
	q.merge = q.mergeText()
	q.seriesStats = fmt.Sprintf("SELECT series_id, count(*), epoch_us(min(%[2]s)), epoch_us(max(%[2]s)) FROM %[1]s", q.facts, q.time)
	q.info = fmt.Sprintf("SELECT count(DISTINCT series_id), count(*), epoch_us(min(%[2]s)), epoch_us(max(%[2]s)) FROM %[1]s", q.facts, q.time)
	return q
}

// mergeText is the diff-aware upsert of a batch: an equal row is not touched.
func (q *statements) mergeText() string {
	changed := make([]string, len(q.values))
	assign := make([]string, len(q.values))
	insert := make([]string, len(q.values))
	for i, c := range q.values {
		changed[i] = fmt.Sprintf("f.%s IS DISTINCT FROM b.%[1]s", c)
		assign[i] = fmt.Sprintf("%s = b.%[1]s", c)
		insert[i] = "b." + c
	}
	values := strings.Join(q.values, ", ")
	return fmt.Sprintf(`
		MERGE INTO %[1]s f
		USING (SELECT series_id, make_timestamp(%[2]s) AS %[2]s, %[3]s, make_timestamp(?) AS updated_at FROM %[4]s()) b
		ON f.series_id = b.series_id AND f.%[2]s = b.%[2]s
		WHEN MATCHED AND (%[5]s) THEN UPDATE SET %[6]s, updated_at = b.updated_at
		WHEN NOT MATCHED THEN INSERT (series_id, %[2]s, %[3]s, updated_at) VALUES (b.series_id, b.%[2]s, %[7]s, b.updated_at)`,
		q.facts, q.time, values, q.function,
		strings.Join(changed, " OR "), strings.Join(assign, ", "), strings.Join(insert, ", "))
}

// page reads facts in order of time, then series, from a cursor on.
// where restricts them; its arguments come before the cursor's three.
func (q *statements) page(where string, descending, afterCursor bool, limit int) string {
	order, past := "ASC", ">"
	if descending {
		order, past = "DESC", "<"
	}
	if afterCursor {
		// The first condition lets row groups be skipped, the second is exact.
		where += fmt.Sprintf(" AND %[1]s %[2]s= make_timestamp(?) AND (%[1]s, series_id) %[2]s (make_timestamp(?), ?)", q.time, past)
	}
	return fmt.Sprintf("SELECT series_id, epoch_us(%[1]s), %[2]s FROM %[3]s WHERE %[4]s ORDER BY %[1]s %[5]s, series_id %[5]s LIMIT %[6]d",
		q.time, strings.Join(q.values, ", "), q.facts, where, order, limit)
}

// latest reads the newest fact of each series.
func (q *statements) latest(where string) string {
	columns := make([]string, len(q.values))
	for i, c := range q.values {
		columns[i] = "f." + c
	}
	return fmt.Sprintf(`
		WITH last AS (SELECT series_id, max(%[1]s) AS %[1]s FROM %[2]s WHERE %[3]s GROUP BY series_id)
		SELECT f.series_id, epoch_us(f.%[1]s), %[4]s
		FROM %[2]s f JOIN last ON f.series_id = last.series_id AND f.%[1]s = last.%[1]s`,
		q.time, q.facts, where, strings.Join(columns, ", "))
}

func names[R any](columns []*mds.Column[R]) []string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = c.Name
	}
	return out
}
