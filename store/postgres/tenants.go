package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
)

// Tenants lists the tenants in order of their slugs.
func (s *Store) Tenants(ctx context.Context) (tenants []mds.Tenant, err error) {
	leave, err := s.enter(false)
	if err != nil {
		return nil, err
	}
	defer leave()
	err = s.transaction(ctx, mds.Tenant{}, readAccess, func(w *work) error {
		tenants, err = allTenants(ctx, w)
		return err
	})
	return tenants, wrap(ctx, "tenants", err)
}

func allTenants(ctx context.Context, q querier) ([]mds.Tenant, error) {
	rows, err := q.Query(ctx, "SELECT id::text, slug FROM mds_internal.tenants ORDER BY slug")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t mds.Tenant, err error) {
		return t, row.Scan(&t.ID, &t.Slug)
	})
}

// Tenant finds a tenant by slug or UUID. The error wraps [mds.ErrUnknownTenant].
func (s *Store) Tenant(ctx context.Context, slugOrID string) (mds.Tenant, error) {
	tenants, err := s.Tenants(ctx)
	if err != nil {
		return mds.Tenant{}, err
	}
	return mds.FindTenant(tenants, slugOrID)
}

// TenantMade is when a tenant was made, by the clock of the database's server. The error
// wraps [mds.ErrUnknownTenant] where there is none.
func (s *Store) TenantMade(ctx context.Context, tenant mds.Tenant) (made time.Time, err error) {
	leave, err := s.enter(false)
	if err != nil {
		return made, err
	}
	defer leave()
	err = s.transaction(ctx, mds.Tenant{}, readAccess, func(w *work) error {
		err := w.QueryRow(ctx, "SELECT created_at FROM mds_internal.tenants WHERE id = $1::uuid", tenant.ID).Scan(&made)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("%w %q", mds.ErrUnknownTenant, tenant.Slug)
		}
		return err
	})
	return made, wrap(ctx, "tenants", err)
}

// CreateTenant makes a tenant. The error wraps [mds.ErrTenantExists] where there is one
// of the name.
func (s *Store) CreateTenant(ctx context.Context, slug string) (mds.Tenant, error) {
	tenant, err := mds.NewTenant(slug)
	if err != nil {
		return mds.Tenant{}, err
	}
	if s.cfg.ReadOnly {
		return mds.Tenant{}, errReadOnly
	}
	leave, err := s.enter(true)
	if err != nil {
		return mds.Tenant{}, err
	}
	defer leave()
	err = retrying(ctx, func(int) error {
		return wrap(ctx, "create tenant", s.transaction(ctx, mds.Tenant{}, changeAccess, func(w *work) error {
			made, err := w.Exec(ctx, "INSERT INTO mds_internal.tenants (id, slug, created_at) VALUES ($1::uuid, $2, clock_timestamp()) ON CONFLICT DO NOTHING", tenant.ID, slug)
			switch {
			case err != nil:
				return err
			case made.RowsAffected() == 0:
				return fmt.Errorf("%w: %s", mds.ErrTenantExists, slug)
			case s.single:
				return errSingle
			}
			return nil
		}))
	})
	if err != nil {
		return mds.Tenant{}, err
	}
	return tenant, nil
}

// RemoveTenant removes a tenant and all that it has, after the writes under way; writes
// for it wait, and find that it is unknown. It refuses the default tenant, which always
// exists. The error wraps [mds.ErrUnknownTenant] where there is none.
func (s *Store) RemoveTenant(ctx context.Context, tenant mds.Tenant) error {
	if s.cfg.ReadOnly {
		return errReadOnly
	}
	if tenant == mds.DefaultTenant() {
		return &Error{Op: "remove", Class: Other, Err: errors.New("the default tenant always exists"), Hint: "remove what it has, kind by kind"}
	}
	leave, err := s.enter(true)
	if err != nil {
		return err
	}
	defer leave()
	return retrying(ctx, func(int) error {
		return wrap(ctx, "remove", s.inTransaction(ctx, tenant, removeAccess, func(w *work) error {
			if err := w.removeRecords(ctx); err != nil {
				return err
			}
			_, err := w.Exec(ctx, "DELETE FROM mds_internal.tenants WHERE id = $1::uuid", tenant.ID)
			return err
		}))
	})
}

// removeRecords removes what the tenant has of every kind that the database has tables
// for.
func (w *work) removeRecords(ctx context.Context) error {
	rows, err := w.Query(ctx, `SELECT s.relname::text, coalesce(f.relname::text, '')
		FROM pg_class s LEFT JOIN pg_class f ON f.relnamespace = s.relnamespace AND f.relkind IN ('r', 'p') AND NOT f.relispartition
			AND starts_with(f.relname || '_', left(s.relname, -length('_series')) || '_facts_')
		WHERE s.relnamespace = 'mds_internal'::regnamespace AND s.relkind IN ('r', 'p') AND s.relname LIKE '%\_series' ORDER BY 1, 2`)
	if err != nil {
		return err
	}
	var series []string
	facts := make(map[string][]string)
	var one, fact string
	_, err = pgx.ForEachRow(rows, []any{&one, &fact}, func() error {
		if facts[one] == nil {
			series = append(series, one)
		}
		facts[one] = append(facts[one], fact)
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := w.Exec(ctx, "DELETE FROM mds_internal.touched WHERE tenant_id = $1::uuid", w.tenant.ID); err != nil {
		return err
	}
	name := func(table string) string { return pgx.Identifier{"mds_internal", table}.Sanitize() }
	var texts []string
	for _, one := range series {
		for _, fact := range facts[one] {
			if fact != "" {
				texts = append(texts, fmt.Sprintf("DELETE FROM %s WHERE series_id IN (SELECT id FROM %s WHERE tenant_id = $1::uuid)", name(fact), name(one)))
			}
		}
		texts = append(texts, fmt.Sprintf("DELETE FROM %s WHERE tenant_id = $1::uuid", name(one)))
	}
	for _, text := range texts {
		if _, err := w.Exec(ctx, text, w.tenant.ID); err != nil {
			return err
		}
	}
	return nil
}

func quoteText(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
