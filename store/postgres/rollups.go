package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/rollup"
)

// refreshBars is how many bars are read, at most, for the rollups that are made in one
// transaction. Tests change it.
var refreshBars int64 = 500_000

// Refresh makes the rollups anew of what changed in a tenant's bars, the newest first, and
// of so many bars at most, roughly; 0 is no limit. It goes on from one transaction to the
// next: wherever it ends, what is left is known, and read from bars.
//
// Of two that refresh one at a time does.
func (s *Store) Refresh(ctx context.Context, tenant mds.Tenant, bars int64) (done mds.Refreshed, err error) {
	if s.cfg.ReadOnly {
		return done, errReadOnly
	}
	leave, err := s.enter(true)
	if err != nil {
		return done, err
	}
	defer leave()
	bt := NewTable[mds.Bar](s)
	policies, err := s.Policies(ctx, tenant)
	if err != nil {
		return done, err
	}
	for _, p := range policies {
		if p.Kind != "bars" || p.Stale == 0 {
			continue
		}
		i := bt.tableOf[p.Timeframe]
		for {
			var step mds.Refreshed
			err := retrying(ctx, func(attempt int) (err error) {
				step, err = s.refresh(ctx, tenant, bt, &bt.tables[i], attempt)
				return wrap(ctx, "refresh rollups", err)
			})
			done = done.Add(step)
			if err != nil || bars > 0 && done.Bars >= bars {
				return done, err
			}
			if step.Spans == 0 {
				break
			}
		}
	}
	return done, nil
}

// rule reads what is kept of a table; nil where nothing is said of it.
func (w *work) rule(ctx context.Context, table *tables, lock string) (*rollup.Rule, error) {
	rule := &rollup.Rule{Source: table.timeframe, KeptFrom: rollup.Never}
	var names []string
	var zone string
	var kept, refreshed *time.Time
	err := w.QueryRow(ctx, "SELECT rollups, zone, kept_from, refreshed_at FROM mds_internal.policies WHERE facts = $1 "+lock, table.facts()).Scan(&names, &zone, &kept, &refreshed)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		rule.Rollups = append(rule.Rollups, mds.Timeframe(name))
	}
	if kept != nil {
		rule.KeptFrom = kept.UnixMicro()
	}
	if refreshed != nil {
		rule.RefreshedAt = refreshed.UTC()
	}
	rule.Zone, err = time.LoadLocation(zone)
	return rule, err
}

// refresh makes some rollups anew, in one transaction: all that it read was committed
// before, and what others commit meanwhile they have noted.
func (s *Store) refresh(ctx context.Context, tenant mds.Tenant, bt *Table[mds.Bar], table *tables, attempt int) (done mds.Refreshed, err error) {
	rt := NewTable[mds.Rollup](s)
	how := rt.access
	how.settings = changeAccess.settings // without a limit of time for statements
	err = s.inTransaction(ctx, tenant, how, func(w *work) error {
		done = mds.Refreshed{}
		if !slices.Contains(w.rolled, table.facts()) {
			return nil
		}
		// One at a time, so that none writes what it read before another one did.
		rule, err := w.rule(ctx, table, "FOR NO KEY UPDATE")
		if err != nil || rule == nil || len(rule.Rollups) == 0 {
			return err
		}
		spans, err := w.touchedSpans(ctx, table)
		if err != nil {
			return err
		}
		taken := rule.Take(spans, refreshBars)
		if taken == 0 {
			return nil
		}
		rest := rollup.Rest(spans, taken)
		spans = spans[:taken]
		done.Spans, done.Late = int64(len(spans)), rule.Late(spans)
		identities, err := bt.identities(ctx, w, spans)
		if err != nil {
			return err
		}
		for _, pass := range rule.Passes(spans) {
			made, read, err := bt.make(ctx, w, table, rule, &pass, identities)
			if err != nil {
				return err
			}
			done.Bars += read
			if len(made) > 0 {
				receipt, err := rt.writeWithin(ctx, w, made, nil, attempt)
				if err != nil {
					return err
				}
				done.Written += receipt.Written
			}
			removed, err := rt.removeOthers(ctx, w, rule, pass.Rollups, spans, identities, made)
			if err != nil {
				return err
			}
			done.Removed += removed
		}
		if err := putRest(ctx, w, rest); err != nil {
			return err
		}
		_, err = w.Exec(ctx, "UPDATE mds_internal.policies SET refreshed_at = now() WHERE facts = $1", table.facts())
		return err
	})
	if err != nil {
		return mds.Refreshed{}, err
	}
	return done, nil
}

// mostTouched is how many values are looked at for one transaction.
const mostTouched = 1000

// touchedSpans are spans of the tenant's series, of the newest values.
func (w *work) touchedSpans(ctx context.Context, table *tables) ([]rollup.Span, error) {
	rows, err := w.Query(ctx, fmt.Sprintf("SELECT id, gone, spans FROM mds_internal.touched WHERE facts = $1 AND tenant_id = $2::uuid ORDER BY last DESC LIMIT %d", mostTouched), table.facts(), w.tenant.ID)
	if err != nil {
		return nil, err
	}
	return scanSpans(rows, rollup.MostSpans)
}

// identities are those of the series of spans.
func (t *Table[R]) identities(ctx context.Context, w *work, spans []rollup.Span) (map[int64]*R, error) {
	ids := make([]int64, len(spans))
	for i := range spans {
		ids[i] = spans[i].Series
	}
	rows, err := w.Query(ctx, fmt.Sprintf("SELECT s.id, %s FROM %s s WHERE s.id = ANY ($1::bigint[])", t.readID, t.series), ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	identities := make(map[int64]*R)
	for rows.Next() {
		if err := checkBinary(rows); err != nil {
			return nil, err
		}
		r := new(R)
		fields := rows.RawValues()
		if err := decodeAll(r, t.idDecode, fields[1:]); err != nil {
			return nil, err
		}
		identities[int64Of(fields[0])] = r
	}
	return identities, rows.Err()
}

// errOrder is for a server that hands rows on in another order than it was asked for.
var errOrder = errors.New("the server's rows are not in order")

// make reads the bars of a pass and makes its rollups.
func (t *Table[R]) make(ctx context.Context, w *work, table *tables, rule *rollup.Rule, pass *rollup.Pass, identities map[int64]*R) (made []mds.Rollup, read int64, err error) {
	var ids, from, to []int64
	for _, r := range pass.Ranges {
		ids, from, to = append(ids, r.Series), append(from, r.From), append(to, r.To)
	}
	// Range by range through the index. Nothing says that a server keeps to the order of
	// the inner query, though none has a reason not to: it is looked at.
	rows, err := w.Query(ctx, fmt.Sprintf(`SELECT r.n, %s FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY r (id, first, last, n)
		CROSS JOIN LATERAL (SELECT * FROM %s f WHERE f.series_id = r.id AND f.ts >= r.first AND f.ts < r.last ORDER BY f.ts) f`, t.readFacts, table.name),
		ids, instants(from), instants(to))
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	maker := rule.NewMaker(pass)
	last, lastTime := int64(0), time.Time{}
	for rows.Next() {
		if err := checkBinary(rows); err != nil {
			return nil, 0, err
		}
		fields := rows.RawValues()
		n := int64Of(fields[0])
		if n != last {
			maker.Flush()
		}
		identity := identities[ids[n-1]]
		if identity == nil {
			return nil, 0, fmt.Errorf("rows are of series %d, which is not there", ids[n-1])
		}
		r := *identity
		if err := decodeAll(&r, t.factDecode, fields[1:]); err != nil {
			return nil, 0, err
		}
		bar, ok := any(&r).(*mds.Bar)
		if !ok || n < last || n == last && !bar.TS.After(lastTime) {
			return nil, 0, errOrder
		}
		last, lastTime = n, bar.TS
		maker.Add(bar)
		read++
	}
	maker.Flush()
	return maker.Made(), read, rows.Err()
}

// removeOthers removes the rollups of spans in which bars were deleted that were not made:
// none are left of them.
func (t *Table[R]) removeOthers(ctx context.Context, w *work, rule *rollup.Rule, rollups []mds.Timeframe, spans []rollup.Span, identities map[int64]*mds.Bar, made []mds.Rollup) (removed int64, err error) {
	kept := rollup.NewKept(made)
	for _, to := range rollups {
		var vendors, symbols []string
		var from, until []int64
		for _, r := range rule.Gone(to, spans) {
			of := identities[r.Series]
			if of == nil {
				continue // it was removed
			}
			vendors, symbols, from, until = append(vendors, of.Vendor), append(symbols, of.Symbol), append(from, r.From), append(until, r.To)
		}
		if len(vendors) == 0 {
			continue
		}
		rows, err := w.Query(ctx, fmt.Sprintf(`SELECT f.series_id, f.ts, r.n FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[]) WITH ORDINALITY r (vendor, symbol, first, last, n)
			JOIN %s s ON s.tenant_id = $1::uuid AND s.vendor = r.vendor AND s.symbol = r.symbol AND s.timeframe = $6 AND s.source = $7
			CROSS JOIN LATERAL (SELECT f.series_id, f.ts FROM mds_internal.bar_rollup_facts f WHERE f.series_id = s.id AND f.ts >= r.first AND f.ts < r.last) f`, t.series),
			w.tenant.ID, vendors, symbols, instants(from), instants(until), string(to), string(rule.Source))
		if err != nil {
			return removed, err
		}
		var ids []int64
		var at []time.Time
		var id, n int64
		var ts time.Time
		_, err = pgx.ForEachRow(rows, []any{&id, &ts, &n}, func() error {
			if !kept.Has(vendors[n-1], symbols[n-1], to, ts.UnixMicro()) {
				ids, at = append(ids, id), append(at, ts)
			}
			return nil
		})
		if err != nil || len(ids) == 0 {
			if err != nil {
				return removed, err
			}
			continue
		}
		gone, err := w.Exec(ctx, "DELETE FROM mds_internal.bar_rollup_facts f USING unnest($1::bigint[], $2::timestamptz[]) g (id, ts) WHERE f.series_id = g.id AND f.ts = g.ts", ids, at)
		if err != nil {
			return removed, err
		}
		removed += gone.RowsAffected()
	}
	return removed, nil
}

// Policies are the policies in force, with what changed of a tenant's bars since rollups
// were made of them.
func (s *Store) Policies(ctx context.Context, tenant mds.Tenant) (list []mds.PolicyStatus, err error) {
	leave, err := s.enter(false)
	if err != nil {
		return nil, err
	}
	defer leave()
	err = s.inTransaction(ctx, tenant, readAccess, func(w *work) error {
		list, err = readPolicies(ctx, w, "tenant_id = $1::uuid", tenant.ID)
		return err
	})
	return list, wrap(ctx, "policies", err)
}

// readPolicies reads them, with what was touched that meets a condition.
func readPolicies(ctx context.Context, q querier, condition string, args ...any) ([]mds.PolicyStatus, error) {
	rows, err := q.Query(ctx, `SELECT kind, timeframe, partition, compress_after, drop_after, rollups, zone, kept_from, refreshed_at, coalesce(t.n, 0), t.since
		FROM mds_internal.policies p LEFT JOIN (SELECT facts, sum(n)::bigint AS n, min(at) AS since FROM mds_internal.touched WHERE `+condition+` GROUP BY facts) t USING (facts)`, args...)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p mds.PolicyStatus, err error) {
		var ages [3]string
		var rollups []string
		var kept, refreshed, since *time.Time
		if err := row.Scan(&p.Kind, &p.Timeframe, &ages[0], &ages[1], &ages[2], &rollups, &p.Zone, &kept, &refreshed, &p.Stale, &since); err != nil {
			return p, err
		}
		for i, age := range []*mds.Age{&p.Partition, &p.CompressAfter, &p.DropAfter} {
			if *age, err = mds.ParseAge(ages[i]); err != nil {
				return p, err
			}
		}
		for _, name := range rollups {
			p.Rollups = append(p.Rollups, mds.Timeframe(name))
		}
		for _, t := range []struct {
			from *time.Time
			to   *time.Time
		}{{kept, &p.KeptFrom}, {refreshed, &p.RefreshedAt}, {since, &p.StaleSince}} {
			if t.from != nil {
				*t.to = t.from.UTC()
			}
		}
		return p, nil
	})
	return mds.SortPolicies(list), err
}
