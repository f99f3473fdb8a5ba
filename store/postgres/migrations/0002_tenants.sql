-- +goose Up
-- PostgreSQL flattens a view that is a UNION ALL into the query that reads it, and its
-- security_barrier with it (tried on 15): a function in WHERE was shown other tenants'
-- rows. So each branch of the view of bars is a barrier of its own.
-- +goose StatementBegin
DO $$
DECLARE
    tf     text;
    parts  text[] := '{}';
BEGIN
    FOREACH tf IN ARRAY ARRAY['1s', '5s', '10s', '15s', '30s', '1m', '2m', '3m', '5m', '10m', '15m', '30m',
                              '1h', '2h', '3h', '4h', '6h', '8h', '12h', '1d', '1w', '1mo'] LOOP
        EXECUTE format('CREATE VIEW mds_internal.%I WITH (security_barrier) AS
            SELECT s.vendor, s.symbol, s.timeframe, f.ts, f.open, f.high, f.low, f.close,
                   f.volume, f.vwap, f.trade_count, f.updated_at
            FROM mds_internal.%I f JOIN mds_internal.bar_series s ON s.id = f.series_id
            WHERE s.timeframe = %L AND s.tenant_id = mds_internal.current_tenant()',
            'sealed_bars_' || tf, 'bar_facts_' || tf, tf);
        parts := parts || format('SELECT * FROM mds_internal.%I', 'sealed_bars_' || tf);
    END LOOP;
    EXECUTE 'CREATE OR REPLACE VIEW mds.bars WITH (security_barrier) AS ' || array_to_string(parts, ' UNION ALL ');
END $$;
-- +goose StatementEnd

-- Who writes for a tenant holds its row, and who removes it takes the row away. The
-- advisory lock that did this could be taken by any login of the database, which stopped
-- the writers of a tenant whose id it knew.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION mds_internal.enter(tenant uuid, access text, series regclass, OUT began timestamptz, OUT known boolean, OUT token text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM set_config('app.tenant_id', tenant::text, true);
    IF access = 'write' THEN
        PERFORM FROM mds_internal.tenants t WHERE t.id = tenant FOR KEY SHARE;
    ELSIF access = 'remove' THEN
        PERFORM FROM mds_internal.tenants t WHERE t.id = tenant FOR UPDATE;
    ELSE
        PERFORM FROM mds_internal.tenants t WHERE t.id = tenant;
    END IF;
    known := FOUND;
    began := now();
    IF series IS NOT NULL THEN
        token := (SELECT e.id::text FROM mds_internal.epoch e) || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || extract(epoch FROM pg_postmaster_start_time()) || pg_relation_filenode(series);
    END IF;
END
$$;
-- +goose StatementEnd

-- Only those who have rights on the tables have a use for these.
REVOKE EXECUTE ON FUNCTION mds_internal.enter, mds_internal.new_epoch FROM PUBLIC;
REVOKE EXECUTE ON PROCEDURE mds_internal.seal FROM PUBLIC;

COMMENT ON SCHEMA mds IS 'Market data, for reading: each login sees the records of its tenant.';
COMMENT ON VIEW mds.bars IS 'Bars of a tenant. Name the timeframe (such as 1m or 1d): each has a table of its own. Times are the starts of the bars, UTC.';
COMMENT ON VIEW mds.options IS 'Option snapshots of a tenant. Times are UTC.';
COMMENT ON VIEW mds.fundamentals IS 'Figures of companies of a tenant, each as filed: the newest filed_at is what is known.';
COMMENT ON VIEW mds.news IS 'News of a tenant. Times are UTC.';
