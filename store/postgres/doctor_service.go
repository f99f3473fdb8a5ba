package postgres

import (
	"context"
	"fmt"

	"github.com/marketdatastore/mds"
)

// service tries what the store's own login is bound by, and says what it is not.
func (d *doctor) service(ctx context.Context, dsn string) error {
	conn, err := connectPlainly(ctx, dsn, nil)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var name string
	var bound bool
	if err := conn.QueryRow(ctx, "SELECT session_user::text, mds_internal.is_service() AND NOT mds_internal.is_owner()").Scan(&name, &bound); err != nil {
		return err
	}
	d.about = "the service's login " + name
	if !bound {
		d.add("is bound by the policies", VerdictOpen, "it is the owner's or a superuser's: the store works for the default tenant only with it; %s", singleHint)
		return nil
	}
	a := &attacker{doctor: d, login: conn}
	for _, one := range []struct {
		what   string
		tenant mds.Tenant
	}{
		{"sees nothing in a transaction that names no tenant", mds.Tenant{}},
		{"sees one tenant's series at a time", append(d.tenants, mds.DefaultTenant())[0]},
	} {
		set := ""
		if one.tenant.ID != "" {
			set = "SET LOCAL app.tenant_id = '" + one.tenant.ID + "'; "
		} else { // what is left of the one before
			for _, t := range d.tenants {
				if _, err := conn.PgConn().Exec(ctx, "BEGIN; SELECT set_config('app.tenant_id', '"+t.ID+"', true); COMMIT").ReadAll(); err != nil {
					return err
				}
			}
		}
		if err := a.begin(ctx); err != nil {
			return err
		}
		var open []string
		for _, v := range d.views {
			rows, refused, err := a.run(ctx, fmt.Sprintf("%sSELECT tenant_id::text FROM %s WHERE tenant_id <> '%s' LIMIT 1", set, v.series, orNone(one.tenant)))
			if err != nil {
				return err
			}
			if refused != nil {
				open = append(open, refused.Message)
			} else if len(rows) > 0 {
				open = append(open, v.series)
			}
			if set != "" {
				continue
			}
			if rows, _, err = a.run(ctx, fmt.Sprintf("SELECT 'x' FROM %s LIMIT 1", v.name)); err != nil {
				return err
			} else if len(rows) > 0 {
				open = append(open, v.name)
			}
		}
		if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
			return err
		}
		if len(open) == 0 {
			d.add(one.what, VerdictRefused, "")
		} else {
			d.judge(one.what, open, "")
		}
	}
	d.add("keeps the facts of tenants apart", VerdictTrusted, "it may read and write those of all, since COPY cannot be bound by policies: that each batch and query is of one tenant is kept by this program, which finds series under the policies, and not by the database")
	return nil
}
