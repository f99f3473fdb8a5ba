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

	// By the columns of series and of facts: an expression, which is the victim's only if
	// it has the value.
	marks []mark
	// bound is a condition on facts that few records meet.
	bound string
}

// mark is an expression and the value that it has of a victim.
type mark struct{ expression, value string }

// findVictims finds a record of another tenant in each view, of a series that the tenant
// itself does not have where there is one. A view that cannot be read has none.
func (d *doctor) findVictims(ctx context.Context, own mds.Tenant) (victims []victim, err error) {
	for _, view := range d.views {
		var best *victim
		for _, tenant := range d.tenants {
			if tenant == own || best != nil && len(best.marks) == 2 {
				continue
			}
			var found *victim
			if _, err := d.within(ctx, func() (err error) {
				found, err = d.findVictim(ctx, view, tenant, own)
				return err
			}); err != nil {
				return nil, err
			}
			if found != nil && (best == nil || len(found.marks) > len(best.marks)) {
				best = found
			}
		}
		if best != nil {
			victims = append(victims, *best)
		}
	}
	return victims, nil
}

// columnsOf are expressions for columns of a record, of its series v and its facts f, as
// the views show them: a decimal lies in billionths in a table of series.
func columnsOf(view sealedView, columns []string) (expressions []string) {
	for _, c := range columns {
		switch {
		case !slices.Contains(view.identity, c):
			expressions = append(expressions, "f."+quote(c))
		case c == "strike":
			expressions = append(expressions, "(v.strike * 0.000000001)::numeric(18,9)")
		default:
			expressions = append(expressions, "v."+quote(c))
		}
	}
	return expressions
}

// conditions are SQL that makes the conditions by which columns are those of a record.
func conditions(view sealedView, columns []string) string {
	parts := make([]string, len(columns))
	for i, expression := range columnsOf(view, columns) {
		parts[i] = fmt.Sprintf("format('%%I = %%L', %s, %s::text)", quoteText(columns[i]), expression)
	}
	return "concat_ws(' AND ', " + strings.Join(parts, ", ") + ")"
}

// together is one text of expressions.
func together(expressions []string) string {
	return "concat_ws('|', " + each(expressions, "%s::text", ", ") + ")"
}

// viewed are columns of a view.
func viewed(columns []string) []string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = "v." + quote(c)
	}
	return out
}

// findVictim finds a record of a tenant by the tables, since a view may be what is
// broken.
func (d *doctor) findVictim(ctx context.Context, view sealedView, tenant, own mds.Tenant) (*victim, error) {
	v := &victim{view: view, tenant: tenant}
	// The own tenant's series, to find one of the other's that it does not have.
	const most = 100_000
	series := together(columnsOf(view, view.identity))
	if err := d.as(ctx, own); err != nil {
		return nil, err
	}
	identities, err := d.strings(ctx, fmt.Sprintf("SELECT %s FROM %s v WHERE v.tenant_id = '%s' LIMIT %d", series, view.series, orNone(own), most))
	if err != nil {
		return nil, err
	}
	if err := d.as(ctx, tenant); err != nil {
		return nil, err
	}
	marked := slices.Concat(view.keys, []string{"updated_at"})
	bound := view.keys
	if slices.Contains(view.identity, "timeframe") { // which has a table of its own
		bound = append([]string{"timeframe"}, bound...)
	}
	record := together(columnsOf(view, view.keys))
	ofSeries, ofFacts := mark{expression: together(viewed(view.identity))}, mark{expression: together(viewed(marked))}
	key, found := "", false
	for _, others := range [][]string{identities, nil} {
		for _, facts := range view.facts {
			rows, err := d.conn.Query(ctx, fmt.Sprintf(`SELECT %s, %s, %s, %s, %s FROM (SELECT * FROM %s v WHERE v.tenant_id = '%s' AND (%[3]s = ANY ($1)) IS NOT TRUE LIMIT 1000) v
				CROSS JOIN LATERAL (SELECT * FROM %[8]s f WHERE f.series_id = v.id LIMIT 1) f LIMIT 1`,
				conditions(view, slices.Concat(view.identity, view.keys)), conditions(view, bound), series, together(columnsOf(view, marked)), record, view.series, tenant.ID, facts), others)
			if err != nil {
				return nil, err
			}
			_, err = pgx.ForEachRow(rows, []any{&v.where, &v.bound, &ofSeries.value, &ofFacts.value, &key}, func() error {
				found = true
				return nil
			})
			if err != nil {
				return nil, err
			}
			if found {
				break
			}
		}
		if found {
			break
		}
	}
	if !found {
		return nil, nil
	}
	if !slices.Contains(identities, ofSeries.value) && len(identities) < most {
		v.marks = append(v.marks, ofSeries)
	}
	v.marks = append(v.marks, ofFacts)
	// What the own tenant has under the key, by the tables too.
	there := make([]string, len(view.facts))
	for i, facts := range view.facts {
		there[i] = fmt.Sprintf("SELECT FROM %s v JOIN %s f ON f.series_id = v.id WHERE v.tenant_id = '%s' AND %s = $1 AND %s = $2", view.series, facts, orNone(own), series, record)
	}
	if err := d.as(ctx, own); err != nil {
		return nil, err
	}
	var has bool
	if err := d.conn.QueryRow(ctx, "SELECT EXISTS ("+strings.Join(there, " UNION ALL ")+")", ofSeries.value, key).Scan(&has); err != nil || !has {
		return v, err
	}
	v.own, err = d.strings(ctx, fmt.Sprintf("SELECT v::text FROM %s v WHERE %s LIMIT 1", view.name, v.where))
	return v, err
}

// orNone is the id of a tenant, or one that is no tenant's.
func orNone(tenant mds.Tenant) string {
	return cmp.Or(tenant.ID, "00000000-0000-0000-0000-000000000000")
}
