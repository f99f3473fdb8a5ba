-- +goose Up
-- What is kept of each table of facts. kept_from is the time before which records were
-- dropped, none where it is missing; refreshed_at is the service's. While a table is
-- converting its rows are copied to another, by its name and _next; the id is the copy's.
CREATE TABLE mds_internal.policies (
    facts          text COLLATE "C" PRIMARY KEY,
    kind           text COLLATE "C" NOT NULL,
    timeframe      text COLLATE "C" NOT NULL,
    partition      text COLLATE "C" NOT NULL,
    compress_after text COLLATE "C" NOT NULL,
    drop_after     text COLLATE "C" NOT NULL,
    rollups        text[] COLLATE "C" NOT NULL,
    zone           text COLLATE "C" NOT NULL,
    kept_from      timestamptz,
    refreshed_at   timestamptz,
    converting     uuid
);

-- Where a tenant's series were written or deleted (gone) since rollups were made of them:
-- who writes notes it in the same transaction. spans has the n stretches of series, which
-- internal/rollup reads, all of them between first and last.
CREATE TABLE mds_internal.touched (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id uuid NOT NULL,
    facts     text COLLATE "C" NOT NULL,
    first     timestamptz NOT NULL,
    last      timestamptz NOT NULL,
    n         bigint NOT NULL,
    spans     bytea NOT NULL,
    gone      boolean NOT NULL,
    at        timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE mds_internal.touched ALTER COLUMN spans SET STORAGE EXTERNAL; -- it is small as it is
CREATE INDEX ON mds_internal.touched (tenant_id, facts, last);

-- Which session carries policies out: one at a time, for as long as it lives.
CREATE TABLE mds_internal.keeping (pid integer, started timestamptz);
INSERT INTO mds_internal.keeping DEFAULT VALUES;

-- What was done that cannot be undone, and by whom.
CREATE TABLE mds_internal.audit (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    login  text COLLATE "C" NOT NULL DEFAULT session_user,
    action text COLLATE "C" NOT NULL,
    about  text COLLATE "C" NOT NULL,
    detail text COLLATE "C" NOT NULL
);

-- Columns whose type cannot be said again, by which a table is partitioned, have none.
-- +goose StatementBegin
CREATE OR REPLACE PROCEDURE mds_internal.without_statistics(relation regclass)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
BEGIN
    FOR c IN SELECT attname, format_type(atttypid, atttypmod) AS type, (SELECT format(' COLLATE pg_catalog.%I', collname) FROM pg_collation l WHERE l.oid = attcollation AND l.collname <> 'default') AS coll,
                EXISTS (SELECT FROM pg_stats s JOIN pg_class r ON r.relname = s.tablename AND r.relnamespace = s.schemaname::regnamespace WHERE r.oid = relation AND s.attname = a.attname) AS known
            FROM pg_attribute a WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('id', 'tenant_id', 'series_id') LOOP
        IF c.known THEN -- its own type again takes away what statistics there are, and rewrites nothing
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE %s%s', relation, c.attname, c.type, coalesce(c.coll, ''));
        END IF;
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0', relation, c.attname);
    END LOOP;
END
$$;

-- A view that is there stays, with the rights on it.
CREATE OR REPLACE PROCEDURE mds_internal.sealed_view(view_schema text, view_name text, facts regclass, series regclass, of_series text[], plain text[], others text[], condition text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CALL mds_internal.without_statistics(facts);
    EXECUTE format('CREATE OR REPLACE VIEW %I.%I WITH (security_barrier) AS SELECT %s, %s, %s FROM %s s CROSS JOIN LATERAL (SELECT %s, %s FROM %s f WHERE f.series_id = ANY (ARRAY[s.id])) f WHERE %s s.tenant_id = mds_internal.current_tenant()',
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

-- The views of tables that another table may take the place of.
CREATE PROCEDURE mds_internal.view_of(facts text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tf text := substr(facts, length('bar_facts_') + 1);
BEGIN
    IF facts LIKE 'bar\_facts\_%' THEN
        CALL mds_internal.sealed_view('mds_internal', 'sealed_bars_' || tf, format('mds_internal.%I', facts)::regclass, 'mds_internal.bar_series',
            ARRAY['greatest(s.vendor, '''') AS vendor', 'greatest(s.symbol, '''') AS symbol', format('%L::text COLLATE "C" AS timeframe', tf)], '{ts}', '{open,high,low,close,volume,vwap,trade_count,updated_at}', format('s.timeframe = %L AND', tf));
    ELSIF facts = 'option_facts' THEN
        CALL mds_internal.sealed_view('mds', 'options', 'mds_internal.option_facts', 'mds_internal.option_series',
            ARRAY['greatest(s.vendor, '''') AS vendor', 'greatest(s.symbol, '''') AS symbol', 's.expiry', 'greatest(s.option_type, '''') AS option_type', '(s.strike * 0.000000001)::numeric(18,9) AS strike'], '{ts}', '{bid,ask,last,iv,delta,gamma,theta,vega,rho,open_interest,volume,spot,updated_at}', '');
    ELSE
        RAISE EXCEPTION 'no table takes the place of %', facts;
    END IF;
END
$$;
-- +goose StatementEnd
REVOKE EXECUTE ON PROCEDURE mds_internal.view_of FROM PUBLIC;

CREATE TABLE mds_internal.bar_rollup_series (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES mds_internal.tenants,
    vendor      text COLLATE "C" NOT NULL,
    symbol      text COLLATE "C" NOT NULL,
    timeframe   text COLLATE "C" NOT NULL,
    source      text COLLATE "C" NOT NULL,
    UNIQUE (tenant_id, vendor, symbol, timeframe, source)
);

CREATE TABLE mds_internal.bar_rollup_facts (
    series_id   bigint NOT NULL,
    ts          timestamptz NOT NULL,
    open        double precision,
    high        double precision,
    low         double precision,
    close       double precision NOT NULL,
    volume      double precision,
    vwap        double precision,
    trade_count bigint,
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (series_id, ts)
);
CREATE INDEX ON mds_internal.bar_rollup_facts USING brin (ts) WHERE series_id > -1;

CALL mds_internal.seal('mds_internal.bar_rollup_series');
CALL mds_internal.sealed_view('mds', 'rollups', 'mds_internal.bar_rollup_facts', 'mds_internal.bar_rollup_series',
    ARRAY['greatest(s.vendor, '''') AS vendor', 'greatest(s.symbol, '''') AS symbol', 'greatest(s.timeframe, '''') AS timeframe', 'greatest(s.source, '''') AS source'],
    '{ts}', '{open,high,low,close,volume,vwap,trade_count,updated_at}', '');
CREATE INDEX bar_rollup_series_seen ON mds_internal.bar_rollup_series (tenant_id, greatest(symbol, ''), greatest(vendor, ''), greatest(timeframe, ''));
ALTER INDEX mds_internal.bar_rollup_series_seen ALTER COLUMN 2 SET STATISTICS 0, ALTER COLUMN 3 SET STATISTICS 0, ALTER COLUMN 4 SET STATISTICS 0;
COMMENT ON VIEW mds.rollups IS 'Bars of a tenant that the store made of shorter ones (source), as they were when they were made last. Times are the starts of the bars, UTC; those of days, weeks and months 00:00 of their dates.';

-- Who begins to write learns of which tables there are rollups, or copies being made, after those who change that
-- have ended: they lock the tenants, whose rows writers hold.
-- Its name is another one, so that no program of before goes on writing and notes nothing.
DROP FUNCTION mds_internal.enter;
-- +goose StatementBegin
CREATE FUNCTION mds_internal.begin_for(tenant uuid, access text, series regclass, OUT began timestamptz, OUT known boolean, OUT token text, OUT rolled text)
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
    IF access = 'write' THEN
        rolled := (SELECT string_agg(p.name, ',') FROM (
            SELECT facts AS name FROM mds_internal.policies WHERE rollups <> '{}'
            UNION ALL SELECT facts || '_next' FROM mds_internal.policies WHERE converting IS NOT NULL) p);
    END IF;
    IF series IS NOT NULL THEN
        token := (SELECT e.id::text FROM mds_internal.epoch e) || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || extract(epoch FROM pg_postmaster_start_time()) || pg_relation_filenode(series);
    END IF;
END
$$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION mds_internal.begin_for FROM PUBLIC;
