package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

// maxPicked is how many series are picked before a query; more are joined in it. Tests
// change it.
var maxPicked = 10_000

// selected is what a selection picks of series (s) and facts (f).
type selected[R any] struct {
	sel   mds.Selection
	known bool // versions of facts are to be told apart
	args  []any

	// The series that it picks, in order of identity, where they are not too many; a row
	// has the index of its own. Otherwise there are conditions on series.
	picked []R
	joined []string

	facts []string // conditions on facts
	from  []part

	// unordered reads the facts without the series, which rankOf finds the index of.
	unordered bool
	rankOf    map[int64]int32

	// most are the facts that are wanted of each series, in descending order of time or
	// not; 0 where there is no limit.
	most       int
	descending bool
}

// part is what is selected of one table.
type part struct {
	*tables
	ids   []int64 // of the series picked
	ranks []int32 // their indices
}

func (s *selected[R]) arg(value any) string {
	s.args = append(s.args, value)
	return fmt.Sprintf("$%d", len(s.args))
}

// limitEach has no more facts of each series read than are wanted of all, where these are
// the first or the last in time: each is a few looks into an index.
func (s *selected[R]) limitEach(query mds.Query) {
	const worthwhile = 1 << 20 // rows
	if query.Limit > 0 && !s.known && !query.ByIdentity && !s.unordered && len(s.picked) > 1 && query.Limit <= worthwhile/len(s.picked) {
		s.most, s.descending = query.Limit, query.Descending
	}
}

// rank notes the indices of the series of a part.
func (s *selected[R]) rank(p *part) {
	if s.rankOf == nil {
		s.rankOf = make(map[int64]int32, len(s.picked))
	}
	for i, id := range p.ids {
		s.rankOf[id] = p.ranks[i]
	}
}

// condition is one on a column of a table.
func (s *selected[R]) condition(table string, c *mds.Condition[R]) string {
	values := make([]string, len(c.Values))
	for i := range c.Values {
		value := &c.Values[i]
		switch {
		case c.Column.Role == mds.Identity:
			values[i] = identityText(c.Column, value)
		case c.Column.List != nil:
			values[i] = (*c.Column.List(value))[0]
		case c.Column.Time != nil:
			values[i] = c.Column.Time(value).UTC().Format("2006-01-02T15:04:05.999999Z")
		default:
			values[i] = string(c.Column.AppendText(nil, value))
		}
	}
	list, name := s.arg(values), table+"."+quote(c.Column.Name)
	if c.Column.List != nil {
		return fmt.Sprintf("%s && %s::text[]", name, list)
	}
	return fmt.Sprintf("%s = ANY (%s::text[]::%s[])", name, list, sqlType(c.Column))
}

// instant is a time as an argument.
func instant(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

// selectRows resolves a selection.
func (t *Table[R]) selectRows(ctx context.Context, w *work, sel mds.Selection) (*selected[R], error) {
	conditions, err := t.schema.Conditions(sel)
	if err != nil {
		return nil, err
	}
	s := &selected[R]{sel: sel, args: []any{w.tenant.ID}, known: !sel.KnownAt.IsZero()}
	series := []string{"s.tenant_id = $1::uuid"}
	for i := range conditions {
		if c := &conditions[i]; c.Column.Role == mds.Identity {
			series = append(series, s.condition("s", c))
		}
	}
	if err := t.pickSeries(ctx, w, s, series); err != nil {
		return nil, err
	}
	for i := range conditions {
		if c := &conditions[i]; c.Column.Role != mds.Identity {
			s.facts = append(s.facts, s.condition("f", c))
		}
	}
	if s.known {
		s.facts = append(s.facts, fmt.Sprintf("f.%s <= %s", quote(t.schema.RevisionColumn().Name), s.arg(instant(mds.Bound(sel.KnownAt.Truncate(time.Microsecond), false)))))
	}
	return s, nil
}

// pickSeries finds the series that match conditions, and the tables that have their
// facts.
func (t *Table[R]) pickSeries(ctx context.Context, w *work, s *selected[R], conditions []string) error {
	rows, err := w.Query(ctx, fmt.Sprintf("SELECT s.id, %s FROM %s s WHERE %s ORDER BY %s LIMIT %d",
		t.readID, t.series, strings.Join(conditions, " AND "), strings.Join(names(t.identity), ", "), maxPicked+1), s.args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	parts := make([]part, len(t.tables))
	for rows.Next() {
		if len(s.picked) == 0 {
			if err := checkBinary(rows); err != nil {
				return err
			}
		}
		fields := rows.RawValues()
		var r R
		if err := decodeAll(&r, t.idDecode, fields[1:]); err != nil {
			return err
		}
		table := int32(0)
		if t.schema.Timeframe != nil {
			table = t.tableOf[t.schema.Timeframe(&r)]
		}
		p := &parts[table]
		p.ids, p.ranks = append(p.ids, int64Of(fields[0])), append(p.ranks, int32(len(s.picked)))
		s.picked = append(s.picked, r)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for i := range parts {
		if parts[i].tables = &t.tables[i]; len(parts[i].ids) > 0 {
			s.from = append(s.from, parts[i])
		}
	}
	if len(s.picked) <= maxPicked {
		s.args = nil
		return nil
	}
	// Of a million series all tables may have some.
	s.picked, s.joined, s.from = nil, conditions, nil
	for i := range t.tables {
		s.from = append(s.from, part{tables: &t.tables[i]})
	}
	return nil
}

// row is what a record is read from: the index of its series, or what identifies it, and
// its facts.
func (t *Table[R]) row(s *selected[R]) string {
	switch {
	case s.joined != nil:
		return t.readID + ", " + t.readFacts
	case len(s.picked) == 1:
		return "0::int AS rank, " + t.readFacts
	case s.unordered:
		return "f.series_id, " + t.readFacts
	}
	return "s.rank, " + t.readFacts
}

// decodeRow fills a record from the fields of row.
func (t *Table[R]) decodeRow(s *selected[R], fields [][]byte) (r R, err error) {
	if s.joined != nil {
		if err := decodeAll(&r, t.idDecode, fields); err != nil {
			return r, err
		}
		fields = fields[len(t.idDecode):]
	} else {
		var rank int32
		if s.rankOf != nil {
			rank = s.rankOf[int64Of(fields[0])]
		} else {
			rank = int32Of(fields[0])
		}
		r, fields = s.picked[rank], fields[1:]
	}
	return r, decodeAll(&r, t.factDecode, fields)
}

// seriesOf is a table of the series of a part, by the name s.
func (t *Table[R]) seriesOf(s *selected[R], p *part) string {
	if s.joined != nil {
		return t.series + " s"
	}
	return fmt.Sprintf("unnest(%s::bigint[], %s::int[]) s (id, rank)", s.arg(p.ids), s.arg(p.ranks))
}

// where are the conditions on a part.
func (t *Table[R]) where(s *selected[R], p *part) string {
	conditions := slices.Concat(s.joined, s.facts)
	if s.joined != nil && p.where != "" {
		conditions = append(conditions, p.where)
	}
	bound := func(at time.Time) string {
		placeholder := s.arg(instant(mds.Bound(at, p.calendar)))
		if t.time.Date != nil {
			return "(" + placeholder + "::timestamptz AT TIME ZONE 'UTC')::date"
		}
		return placeholder
	}
	if !s.sel.Start.IsZero() {
		conditions = append(conditions, "f."+t.timeName+" >= "+bound(s.sel.Start))
	}
	if !s.sel.End.IsZero() {
		conditions = append(conditions, "f."+t.timeName+" < "+bound(s.sel.End))
	}
	// The indexes by time and by symbols are for those who say so (migration 2).
	return strings.Join(append(conditions, "f.series_id > -1"), " AND ")
}

// union selects columns of series and facts from all tables that a selection needs.
func (t *Table[R]) union(s *selected[R], columns string) string {
	parts := make([]string, len(s.from))
	for i := range s.from {
		p := &s.from[i]
		if len(s.picked) == 1 { // which needs no join: the rows come in the order of the key
			parts[i] = fmt.Sprintf("SELECT %s FROM %s f WHERE f.series_id = %s AND %s", columns, p.name, s.arg(p.ids[0]), t.where(s, p))
			continue
		}
		if s.unordered && s.joined == nil { // the planner sees how many there are, and may read the table as it lies
			s.rank(p)
			parts[i] = fmt.Sprintf("SELECT %s FROM %s f WHERE f.series_id = ANY (%s::bigint[]) AND %s", columns, p.name, s.arg(p.ids), t.where(s, p))
			continue
		}
		if s.most > 0 && s.joined == nil {
			order := append([]string{t.timeName}, names(t.keys)...)
			direction := "%s"
			if s.descending {
				direction = "%s DESC"
			}
			parts[i] = fmt.Sprintf("SELECT %s FROM %s CROSS JOIN LATERAL (SELECT * FROM %s f WHERE f.series_id = s.id AND %s ORDER BY %s LIMIT %d) f",
				columns, t.seriesOf(s, p), p.name, t.where(s, p), each(order, direction, ", "), s.most)
			continue
		}
		parts[i] = fmt.Sprintf("SELECT %s FROM %s JOIN %s f ON f.series_id = s.id WHERE %s", columns, t.seriesOf(s, p), p.name, t.where(s, p))
	}
	return strings.Join(parts, " UNION ALL ")
}

// order is the order of a query, by the names of row.
func (t *Table[R]) order(s *selected[R], byIdentity, descending bool) string {
	keys, identity := names(t.keys), []string{"rank"}
	switch {
	case s.joined != nil:
		identity = names(t.identity)
	case len(s.picked) == 1:
		identity = nil
	}
	var columns []string
	switch {
	case byIdentity && s.known: // the versions of a fact next to each other
		columns = slices.Concat(identity, names(t.schema.ByRole(mds.Key)), []string{t.timeName}, names(t.schema.ByRole(mds.Revision)))
	case byIdentity:
		columns = slices.Concat(identity, keys, []string{t.timeName})
	default:
		columns = slices.Concat([]string{t.timeName}, identity, keys)
	}
	if descending {
		return each(columns, "%s DESC", ", ")
	}
	return strings.Join(columns, ", ")
}
