package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
)

// victim is a record of another tenant.
type victim struct {
	view   sealedView
	tenant mds.Tenant
	where  string // condition on the record
	// What the login's own tenant has under the same key: nothing most often.
	own []string

	// By the columns of series, if its own tenant has no such series, and of facts: an
	// expression, which has the value of this record only.
	marks []mark
	// bound is a condition on the key of facts that few records meet, and within that on the
	// timeframe, which picks a table.
	bound, timeframe string
	// lacks are columns, and their values of the victim, that the own tenant's records do not
	// have: of its series, and of its facts.
	lacks []mark
}

// mark is an expression and the value that it has of a victim.
type mark struct{ expression, value string }

// findVictims finds a record of another tenant in each view, of a series that the tenant
// itself does not have where there is one. It returns the views that none was found for,
// with the reason.
func (d *doctor) findVictims(ctx context.Context, own mds.Tenant) (victims []victim, without []string, err error) {
	for _, view := range d.views {
		var best *victim
		why := "no other tenant has records there"
		for _, tenant := range d.tenants {
			if tenant == own || best != nil && len(best.marks) == 2 {
				continue
			}
			var found *victim
			failed, err := d.within(ctx, func() (err error) {
				found, err = d.findVictim(ctx, view, tenant, own)
				return err
			})
			if err != nil {
				return nil, nil, err
			}
			if failed != nil {
				why = failed.Message
			}
			if found != nil && (best == nil || len(found.marks) > len(best.marks)) {
				best = found
			}
		}
		if best == nil {
			without = append(without, view.name+" ("+why+")")
			continue
		}
		victims = append(victims, *best)
	}
	return victims, without, nil
}

// viewed are columns of a view.
func viewed(columns []string) []string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = "v." + quote(c)
	}
	return out
}

// ofSeries are columns of a table of series as the views show them: a decimal lies there
// in billionths.
func ofSeries(columns []string) []string {
	out := viewed(columns)
	for i, c := range columns {
		if c == "strike" {
			out[i] = "(v.strike * 0.000000001)::numeric(18,9)"
		}
	}
	return out
}

// ofFacts are columns of facts.
func ofFacts(columns []string) []string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = "f." + quote(c)
	}
	return out
}

// conditions are SQL that makes the conditions by which columns, named so, have the values
// of expressions.
func conditions(named, expressions []string) string {
	parts := make([]string, len(named))
	for i := range named {
		parts[i] = fmt.Sprintf("format('%%s = %%L', %s, %s::text)", quoteText(named[i]), expressions[i])
	}
	return "concat_ws(' AND ', " + strings.Join(parts, ", ") + ")"
}

// together is one text of expressions.
func together(expressions []string) string {
	return "concat_ws('|', " + each(expressions, "%s::text", ", ") + ")"
}

// findVictim finds a record of a tenant by the tables, since a view may be what is
// broken: a few looks into their keys.
func (d *doctor) findVictim(ctx context.Context, view sealedView, tenant, own mds.Tenant) (*victim, error) {
	// The own tenant's series, to find one of the other's that it does not have.
	const most = 100_000
	if err := d.as(ctx, own); err != nil {
		return nil, err
	}
	identity := together(ofSeries(view.identity))
	identities, err := d.strings(ctx, fmt.Sprintf("SELECT %s FROM %s v WHERE v.tenant_id = '%s' LIMIT %d", identity, view.series, orNone(own), most))
	if err != nil {
		return nil, err
	}
	marked := slices.Clone(view.keys)
	if view.updated {
		marked = append(marked, "updated_at")
	}
	bySeries, byFacts := together(viewed(view.identity)), together(viewed(marked))
	timeframe := slices.Contains(view.identity, "timeframe")
	for _, others := range [][]string{identities, nil} {
		for _, facts := range view.facts {
			if err := d.as(ctx, tenant); err != nil {
				return nil, err
			}
			which, bound, boundValues := "true", view.keys, ofFacts(view.keys)
			if timeframe { // which has a table of its own
				_, tf, _ := strings.Cut(strings.Trim(facts, `"`), "_facts_")
				which, bound = "v.timeframe = "+quoteText(strings.Trim(tf, `"`)), append([]string{"timeframe"}, bound...)
				boundValues = append([]string{"v.timeframe"}, boundValues...)
			}
			columns := slices.Concat(view.identity, view.keys)
			values := slices.Concat(ofSeries(view.identity), ofFacts(view.keys))
			rows, err := d.conn.Query(ctx, fmt.Sprintf(`SELECT %s, %s, %s, %s, %s, %s, %s
				FROM (SELECT * FROM %s v WHERE v.tenant_id = '%s' AND %s AND (%s = ANY ($1)) IS NOT TRUE LIMIT 20) v
				CROSS JOIN LATERAL (SELECT * FROM %s f WHERE f.series_id = v.id LIMIT 3) f LIMIT 5`,
				conditions(viewed(columns), values), conditions(viewed(bound), boundValues), identity, together(ofFacts(marked)),
				conditions(viewed(view.identity), viewed(view.identity)), conditions(ofFacts(view.keys), ofFacts(view.keys)),
				"ARRAY["+each(slices.Concat(values, ofFacts(marked[len(view.keys):])), "%s::text", ", ")+"]",
				view.series, tenant.ID, which, identity, facts), others)
			if err != nil {
				return nil, err
			}
			found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c candidate, err error) {
				return c, row.Scan(&c.where, &c.bound, &c.series, &c.facts, &c.seriesKey, &c.factsKey, &c.fields)
			})
			if err != nil {
				return nil, err
			}
			var best *victim
			for _, c := range found { // the one that tells the most
				v := &victim{view: view, tenant: tenant, where: c.where, bound: c.bound, timeframe: "true"}
				if len(identities) < most && !slices.Contains(identities, c.series) {
					v.marks = append(v.marks, mark{bySeries, c.series})
				}
				v.marks = append(v.marks, mark{byFacts, c.facts})
				if timeframe {
					v.timeframe, _, _ = strings.Cut(v.bound, " AND ")
				}
				if err := d.findOwn(ctx, v, own, facts, c.seriesKey, c.factsKey); err != nil {
					return nil, err
				}
				if err := d.findLacks(ctx, v, own, facts, slices.Concat(columns, marked[len(view.keys):]), c.fields); err != nil {
					return nil, err
				}
				if best == nil || len(v.lacks) > len(best.lacks) {
					best = v
				}
			}
			if best != nil {
				return best, nil
			}
		}
	}
	return nil, nil
}

// candidate is a record that may be a victim.
type candidate struct {
	where, bound, series, facts, seriesKey, factsKey string
	fields                                           []string
}

// findOwn finds what the own tenant has under the victim's key, by the tables too.
func (d *doctor) findOwn(ctx context.Context, v *victim, own mds.Tenant, facts, series, key string) error {
	if err := d.as(ctx, own); err != nil {
		return err
	}
	var has bool
	err := d.conn.QueryRow(ctx, fmt.Sprintf("SELECT EXISTS (SELECT FROM %s v JOIN %s f ON f.series_id = v.id WHERE v.tenant_id = '%s' AND %s AND %s)", v.view.series, facts, orNone(own), series, key)).Scan(&has)
	if err != nil || !has {
		return err
	}
	v.own, err = d.strings(ctx, fmt.Sprintf("SELECT v::text FROM %s v WHERE %s LIMIT 1", v.view.name, v.where))
	return err
}

// findLacks finds the columns by whose value a record of the own tenant's could not be
// meant. Of a tenant with many series that is not asked.
func (d *doctor) findLacks(ctx context.Context, v *victim, own mds.Tenant, facts string, columns, values []string) error {
	const most = 1000
	var series int
	if err := d.conn.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM (SELECT FROM %s WHERE tenant_id = '%s' LIMIT %d) s", v.view.series, orNone(own), most)).Scan(&series); err != nil || series == most {
		return err
	}
	for i, c := range columns {
		// By the types of the columns, so that an index is asked.
		text := fmt.Sprintf("SELECT EXISTS (SELECT FROM %s v CROSS JOIN LATERAL (SELECT FROM %s f WHERE f.series_id = v.id AND f.%s = %s LIMIT 1) f WHERE v.tenant_id = '%s')", v.view.series, facts, quote(c), quoteText(values[i]), orNone(own))
		if slices.Contains(v.view.identity, c) {
			text = fmt.Sprintf("SELECT EXISTS (SELECT FROM %s v WHERE v.tenant_id = '%s' AND %s::text = %s)", v.view.series, orNone(own), ofSeries([]string{c})[0], quoteText(values[i]))
		}
		var has bool
		if err := d.conn.QueryRow(ctx, text).Scan(&has); err != nil {
			return err
		}
		if !has {
			v.lacks = append(v.lacks, mark{c, values[i]})
		}
	}
	// What own records have, too, tells nothing.
	if len(v.marks) > 0 && !slices.ContainsFunc(v.lacks, func(m mark) bool { return !slices.Contains(v.view.identity, m.expression) }) {
		v.marks = v.marks[:len(v.marks)-1]
	}
	return nil
}

// orNone is the id of a tenant, or one that is no tenant's.
func orNone(tenant mds.Tenant) string {
	return cmp.Or(tenant.ID, "00000000-0000-0000-0000-000000000000")
}
