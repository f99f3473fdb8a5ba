-- +goose Up
-- What PostgreSQL (15) lets a reader look past, tried:
--
-- A view that is a UNION ALL is flattened into the query that reads it, and its
-- security_barrier with it: a function in WHERE was shown other tenants' rows. So each
-- branch of the view of bars is a barrier of its own.
--
-- Conditions with leakproof operators (=, <, starts_with …) go through a barrier, to the
-- scan of the facts, which have no tenant: EXPLAIN ANALYZE told how many rows of all
-- tenants met them. So facts are read series by series, in a subquery that is not pulled
-- up because its columns are volatile, and with no other condition than on what is plain:
-- keys and the time, which go into the scan beside the series.
--
-- Where a scan is not by index its conditions are asked in the order of their costs, and a
-- subquery within one tells whether it was asked: a condition of half an operator, = ANY
-- of an array of one, came before the tenant's and the series', and was asked of other
-- tenants' rows. So these are arrays of one themselves, and come first (equal ones stay in
-- order; doctor tries it).
--
-- A subscript costs nothing, and would come first all the same: so texts of series are
-- shown through greatest(…, ''), which costs an operator whatever is asked of it, with
-- indexes of that, and texts of facts not plain.
--
-- EXPLAIN estimates by the statistics of all tenants: there are none but of series_id.
--
-- An index by time alone is read for all tenants, and EXPLAIN ANALYZE tells how many rows
-- were not the own series': the ones by time are for those who say that a series' id is
-- no less than 0, which the views do not.
DROP VIEW mds.bars, mds.options, mds.fundamentals, mds.news;

-- +goose StatementBegin
CREATE PROCEDURE mds_internal.without_statistics(relation regclass)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
BEGIN
    FOR c IN SELECT attname, format_type(atttypid, atttypmod) AS type, (SELECT format(' COLLATE pg_catalog.%I', collname) FROM pg_collation l WHERE l.oid = attcollation AND l.collname <> 'default') AS coll
            FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('id', 'tenant_id', 'series_id') LOOP
        -- Its own type again takes away what statistics there are, and rewrites nothing.
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE %s%s', relation, c.attname, c.type, coalesce(c.coll, ''));
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0', relation, c.attname);
    END LOOP;
END
$$;

CREATE OR REPLACE PROCEDURE mds_internal.seal(series regclass)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', series);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', series);
    EXECUTE format('DROP POLICY IF EXISTS of_tenant ON %s', series);
    EXECUTE format('CREATE POLICY of_tenant ON %s USING (tenant_id = ANY (ARRAY[(SELECT mds_internal.current_tenant())]) OR (SELECT mds_internal.is_owner()))', series);
    EXECUTE format('CREATE OR REPLACE TRIGGER new_epoch AFTER UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION mds_internal.new_epoch()', series);
    CALL mds_internal.without_statistics(series);
END
$$;
-- +goose StatementEnd

CREATE FUNCTION mds_internal.own(anyelement) RETURNS anyelement LANGUAGE sql VOLATILE PARALLEL SAFE AS 'SELECT $1';

-- The sealed view of facts: columns of series, plain columns of facts, others.
-- +goose StatementBegin
CREATE PROCEDURE mds_internal.sealed_view(view_schema text, view_name text, facts regclass, series regclass, of_series text[], plain text[], others text[], condition text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CALL mds_internal.without_statistics(facts);
    EXECUTE format('CREATE VIEW %I.%I WITH (security_barrier) AS SELECT %s, %s, %s FROM %s s CROSS JOIN LATERAL (SELECT %s, %s FROM %s f WHERE f.series_id = ANY (ARRAY[s.id])) f WHERE %s s.tenant_id = mds_internal.current_tenant()',
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

CALL mds_internal.seal('mds_internal.bar_series');
CALL mds_internal.seal('mds_internal.option_series');
CALL mds_internal.seal('mds_internal.fundamental_series');
CALL mds_internal.seal('mds_internal.news_item_series');

-- +goose StatementBegin
DO $$
DECLARE
    tf     text;
    parts  text[] := '{}';
BEGIN
    FOREACH tf IN ARRAY ARRAY['1s', '5s', '10s', '15s', '30s', '1m', '2m', '3m', '5m', '10m', '15m', '30m',
                              '1h', '2h', '3h', '4h', '6h', '8h', '12h', '1d', '1w', '1mo'] LOOP
        CALL mds_internal.sealed_view('mds_internal', 'sealed_bars_' || tf, format('mds_internal.%I', 'bar_facts_' || tf)::regclass, 'mds_internal.bar_series',
            ARRAY['greatest(s.vendor, '''') AS vendor', 'greatest(s.symbol, '''') AS symbol', format('%L::text COLLATE "C" AS timeframe', tf)], '{ts}', '{open,high,low,close,volume,vwap,trade_count,updated_at}', format('s.timeframe = %L AND', tf));
        parts := parts || format('SELECT * FROM mds_internal.%I', 'sealed_bars_' || tf);
    END LOOP;
    EXECUTE 'CREATE VIEW mds.bars WITH (security_barrier) AS ' || array_to_string(parts, ' UNION ALL ');
    CALL mds_internal.sealed_view('mds', 'options', 'mds_internal.option_facts', 'mds_internal.option_series',
        ARRAY['greatest(s.vendor, '''') AS vendor', 'greatest(s.symbol, '''') AS symbol', 's.expiry', 'greatest(s.option_type, '''') AS option_type', '(s.strike * 0.000000001)::numeric(18,9) AS strike'], '{ts}', '{bid,ask,last,iv,delta,gamma,theta,vega,rho,open_interest,volume,spot,updated_at}', '');
    CALL mds_internal.sealed_view('mds', 'fundamentals', 'mds_internal.fundamental_facts', 'mds_internal.fundamental_series',
        ARRAY['greatest(s.vendor, '''') AS vendor', 'greatest(s.symbol, '''') AS symbol'], '{filed_at,asof}', '{period,revenue,operating_income,net_income,total_assets,total_liabilities,total_equity,eps,shares_outstanding,currency,form,accession,extra,updated_at}', '');
    CALL mds_internal.sealed_view('mds', 'news', 'mds_internal.news_item_facts', 'mds_internal.news_item_series',
        ARRAY['greatest(s.vendor, '''') AS vendor'], '{published_at}', '{id,title,symbols,url,summary,sentiment_score,updated_at}', '');
END $$;
-- +goose StatementEnd

CREATE INDEX bar_series_seen ON mds_internal.bar_series (tenant_id, greatest(symbol, ''), greatest(vendor, ''), timeframe);
ALTER INDEX mds_internal.bar_series_seen ALTER COLUMN 2 SET STATISTICS 0, ALTER COLUMN 3 SET STATISTICS 0;
CREATE INDEX option_series_seen ON mds_internal.option_series (tenant_id, greatest(symbol, ''), expiry);
ALTER INDEX mds_internal.option_series_seen ALTER COLUMN 2 SET STATISTICS 0;
CREATE INDEX fundamental_series_seen ON mds_internal.fundamental_series (tenant_id, greatest(symbol, ''));
ALTER INDEX mds_internal.fundamental_series_seen ALTER COLUMN 2 SET STATISTICS 0;

-- +goose StatementBegin
DO $$
DECLARE
    i record;
BEGIN
    FOR i IN SELECT c.relname AS name, x.indrelid::regclass AS relation FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
            WHERE c.relnamespace = 'mds_internal'::regnamespace AND c.relam = 3580 LOOP -- brin
        EXECUTE format('DROP INDEX mds_internal.%I', i.name);
        EXECUTE format('CREATE INDEX %I ON %s USING brin (ts) WHERE series_id > -1', i.name, i.relation);
    END LOOP;
END $$;
-- +goose StatementEnd
DROP INDEX mds_internal.news_item_facts_published_at_idx;
CREATE INDEX news_item_facts_published_at_idx ON mds_internal.news_item_facts (published_at) WHERE series_id > -1;
DROP INDEX mds_internal.news_item_facts_symbols_idx;
CREATE INDEX news_item_facts_symbols_idx ON mds_internal.news_item_facts USING gin (symbols) WHERE series_id > -1;
CREATE INDEX ON mds_internal.news_item_facts (series_id, published_at);

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
REVOKE EXECUTE ON PROCEDURE mds_internal.seal, mds_internal.sealed_view, mds_internal.without_statistics FROM PUBLIC;

COMMENT ON SCHEMA mds IS 'Market data, for reading: each login sees the records of its tenant.';
COMMENT ON VIEW mds.bars IS 'Bars of a tenant. Name the timeframe (such as 1m or 1d): each has a table of its own. Times are the starts of the bars, UTC.';
COMMENT ON VIEW mds.options IS 'Option snapshots of a tenant. Times are UTC.';
COMMENT ON VIEW mds.fundamentals IS 'Figures of companies of a tenant, each as filed: the newest filed_at is what is known.';
COMMENT ON VIEW mds.news IS 'News of a tenant. Times are UTC.';
