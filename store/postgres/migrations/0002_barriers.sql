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
