-- +goose Up
-- What PostgreSQL (15) lets a reader look past, tried:
--
-- A view that is a UNION ALL is flattened into the query that reads it, and its
-- security_barrier with it: a function in WHERE was shown other tenants' rows. So each
-- branch of the view of bars is a barrier of its own.
--
-- Conditions with leakproof operators (=, <, starts_with …) go through a barrier, to the
-- scan of the facts, which have no tenant: EXPLAIN ANALYZE told how many rows of all
-- tenants met them, and EXPLAIN estimated it. So facts are read series by series, in a
-- subquery that is not pulled up because its columns are volatile, and with no other
-- condition than on what is plain: keys and the time, which go into the scan beside the
-- series.
CREATE FUNCTION mds_internal.own(anyelement) RETURNS anyelement LANGUAGE sql VOLATILE PARALLEL SAFE AS 'SELECT $1';

-- The sealed view of facts: columns of series, plain columns of facts, others.
-- +goose StatementBegin
CREATE PROCEDURE mds_internal.sealed_view(view_schema text, view_name text, facts regclass, series regclass, of_series text[], plain text[], others text[], condition text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('CREATE OR REPLACE VIEW %I.%I WITH (security_barrier) AS SELECT %s, %s, %s FROM %s s CROSS JOIN LATERAL (SELECT %s, %s FROM %s f WHERE f.series_id = s.id) f WHERE %s s.tenant_id = mds_internal.current_tenant()',
        view_schema, view_name,
        array_to_string(of_series, ', '),
        (SELECT string_agg(format('f.%I', c), ', ' ORDER BY n) FROM unnest(plain) WITH ORDINALITY p (c, n)),
        (SELECT string_agg(format('f.%I', c), ', ' ORDER BY n) FROM unnest(others) WITH ORDINALITY p (c, n)),
        series,
        (SELECT string_agg(format('f.%I', c), ', ' ORDER BY n) FROM unnest(plain) WITH ORDINALITY p (c, n)),
        (SELECT string_agg(format('mds_internal.own(f.%I) AS %1$I', c), ', ' ORDER BY n) FROM unnest(others) WITH ORDINALITY p (c, n)),
        facts, condition);
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
DECLARE
    tf     text;
    parts  text[] := '{}';
BEGIN
    FOREACH tf IN ARRAY ARRAY['1s', '5s', '10s', '15s', '30s', '1m', '2m', '3m', '5m', '10m', '15m', '30m',
                              '1h', '2h', '3h', '4h', '6h', '8h', '12h', '1d', '1w', '1mo'] LOOP
        CALL mds_internal.sealed_view('mds_internal', 'sealed_bars_' || tf, format('mds_internal.%I', 'bar_facts_' || tf)::regclass, 'mds_internal.bar_series',
            '{s.vendor,s.symbol,s.timeframe}', '{ts}', '{open,high,low,close,volume,vwap,trade_count,updated_at}', format('s.timeframe = %L AND', tf));
        parts := parts || format('SELECT * FROM mds_internal.%I', 'sealed_bars_' || tf);
    END LOOP;
    EXECUTE 'CREATE OR REPLACE VIEW mds.bars WITH (security_barrier) AS ' || array_to_string(parts, ' UNION ALL ');
    CALL mds_internal.sealed_view('mds', 'options', 'mds_internal.option_facts', 'mds_internal.option_series',
        ARRAY['s.vendor', 's.symbol', 's.expiry', 's.option_type', '(s.strike * 0.000000001)::numeric(18,9) AS strike'], '{ts}', '{bid,ask,last,iv,delta,gamma,theta,vega,rho,open_interest,volume,spot,updated_at}', '');
    CALL mds_internal.sealed_view('mds', 'fundamentals', 'mds_internal.fundamental_facts', 'mds_internal.fundamental_series',
        '{s.vendor,s.symbol}', '{period,filed_at,asof}', '{revenue,operating_income,net_income,total_assets,total_liabilities,total_equity,eps,shares_outstanding,currency,form,accession,extra,updated_at}', '');
    CALL mds_internal.sealed_view('mds', 'news', 'mds_internal.news_item_facts', 'mds_internal.news_item_series',
        '{s.vendor}', '{id,published_at}', '{title,symbols,url,summary,sentiment_score,updated_at}', '');
END $$;
-- +goose StatementEnd

-- An index by time alone would be read for all tenants, and EXPLAIN ANALYZE tell how many
-- rows were not the own series'.
DROP INDEX mds_internal.news_item_facts_published_at_idx;
CREATE INDEX ON mds_internal.news_item_facts (series_id, published_at);

-- What the planner knows of identities it knows of all tenants': EXPLAIN would tell. Series
-- are looked up by one index whatever it knows.
-- +goose StatementBegin
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN SELECT attrelid::regclass AS series, attname FROM pg_attribute WHERE attrelid = ANY (ARRAY['mds_internal.bar_series', 'mds_internal.option_series', 'mds_internal.fundamental_series', 'mds_internal.news_item_series']::regclass[])
            AND attnum > 0 AND attname NOT IN ('id', 'tenant_id') LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0', c.series, c.attname);
    END LOOP;
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
REVOKE EXECUTE ON PROCEDURE mds_internal.seal, mds_internal.sealed_view FROM PUBLIC;

COMMENT ON SCHEMA mds IS 'Market data, for reading: each login sees the records of its tenant.';
COMMENT ON VIEW mds.bars IS 'Bars of a tenant. Name the timeframe (such as 1m or 1d): each has a table of its own. Times are the starts of the bars, UTC.';
COMMENT ON VIEW mds.options IS 'Option snapshots of a tenant. Times are UTC.';
COMMENT ON VIEW mds.fundamentals IS 'Figures of companies of a tenant, each as filed: the newest filed_at is what is known.';
COMMENT ON VIEW mds.news IS 'News of a tenant. Times are UTC.';
