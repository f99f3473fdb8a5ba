-- +goose Up
-- Two schemas, which are there: people read the views in mds, the store works on the
-- tables in mds_internal. The service's login gets its rights from GrantService.
CREATE TABLE mds_internal.tenants (
    id         uuid PRIMARY KEY,
    slug       text COLLATE "C" NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO mds_internal.tenants (id, slug) VALUES ('170955cd-45b1-5e79-a214-43560e6e8b6c', 'default');

-- Logins of the store itself: they say per transaction which tenant they work for.
CREATE TABLE mds_internal.service_logins (login text COLLATE "C" PRIMARY KEY);

-- Logins of tenants, which see that one tenant.
CREATE TABLE mds_internal.tenant_logins (
    login     text COLLATE "C" PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES mds_internal.tenants ON DELETE CASCADE
);

-- Names within functions are found in the system's schema, whatever the session's path.
-- They are in plpgsql, whose plans are kept for the session.
-- +goose StatementBegin
CREATE FUNCTION mds_internal.is_service() RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN EXISTS (SELECT FROM mds_internal.service_logins WHERE login = session_user); END $$;
-- +goose StatementEnd

-- The owner's own session, or that of a login that can become the owner; by
-- session_user, since current_user is the owner in everything that the views do.
-- +goose StatementBegin
CREATE FUNCTION mds_internal.is_owner() RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN (SELECT pg_has_role(session_user, nspowner, 'MEMBER') FROM pg_namespace WHERE nspname = 'mds_internal'); END $$;
-- +goose StatementEnd

-- The tenant that the session may see. A setting alone seals nothing, since any login
-- can set it: it counts for service logins and the owner only, who is for the default
-- tenant otherwise. The empty text is what a setting reads as after the transaction
-- that set it.
-- +goose StatementBegin
CREATE FUNCTION mds_internal.current_tenant() RETURNS uuid
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF mds_internal.is_service() THEN
        RETURN nullif(current_setting('app.tenant_id', true), '')::uuid;
    ELSIF mds_internal.is_owner() THEN
        RETURN coalesce(nullif(current_setting('app.tenant_id', true), ''), '170955cd-45b1-5e79-a214-43560e6e8b6c')::uuid;
    END IF;
    RETURN (SELECT tenant_id FROM mds_internal.tenant_logins WHERE login = session_user);
END
$$;
-- +goose StatementEnd

-- Programs remember the ids of series for as long as the epoch is the same.
CREATE TABLE mds_internal.epoch (id uuid NOT NULL DEFAULT gen_random_uuid());
INSERT INTO mds_internal.epoch DEFAULT VALUES;

-- +goose StatementBegin
CREATE FUNCTION mds_internal.new_epoch() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ BEGIN UPDATE mds_internal.epoch SET id = gen_random_uuid(); RETURN NULL; END $$;
-- +goose StatementEnd

-- How the store's transactions begin: for a tenant, which may not be found. One that writes waits for one who removes the tenant, and
-- that one for it; what it sees afterwards was committed before. The token is what the
-- ids of series in a table are good for: while nothing removed one, the table is the
-- same, and the server was not started again, from another time perhaps.
-- +goose StatementBegin
CREATE FUNCTION mds_internal.enter(tenant uuid, access text, series regclass, OUT began timestamptz, OUT known boolean, OUT token text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF access = 'write' THEN
        PERFORM pg_advisory_xact_lock_shared(hashtextextended(tenant::text, 7::bigint));
    ELSIF access = 'remove' THEN
        PERFORM pg_advisory_xact_lock(hashtextextended(tenant::text, 7::bigint));
    END IF;
    PERFORM set_config('app.tenant_id', tenant::text, true);
    began := now();
    known := EXISTS (SELECT FROM mds_internal.tenants t WHERE t.id = tenant);
    IF series IS NOT NULL THEN
        token := (SELECT e.id::text FROM mds_internal.epoch e) || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || extract(epoch FROM pg_postmaster_start_time()) || pg_relation_filenode(series);
    END IF;
END
$$;
-- +goose StatementEnd

-- What a table of series needs: its rows are seen by their tenant and the owner, and an
-- id that goes or changes begins another epoch.
-- +goose StatementBegin
CREATE PROCEDURE mds_internal.seal(series regclass)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', series);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', series);
    EXECUTE format('CREATE POLICY of_tenant ON %s USING (tenant_id = (SELECT mds_internal.current_tenant()) OR (SELECT mds_internal.is_owner()))', series);
    EXECUTE format('CREATE TRIGGER new_epoch AFTER UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION mds_internal.new_epoch()', series);
END
$$;
-- +goose StatementEnd

CREATE TABLE mds_internal.bar_series (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES mds_internal.tenants,
    vendor      text COLLATE "C" NOT NULL,
    symbol      text COLLATE "C" NOT NULL,
    timeframe   text COLLATE "C" NOT NULL,
    UNIQUE (tenant_id, vendor, symbol, timeframe)
);

-- The strike in billionths: a comparison of numeric values is not leakproof, so that
-- under a policy no index would be asked for it.
CREATE TABLE mds_internal.option_series (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES mds_internal.tenants,
    vendor      text COLLATE "C" NOT NULL,
    symbol      text COLLATE "C" NOT NULL,
    expiry      date NOT NULL,
    option_type text COLLATE "C" NOT NULL,
    strike      bigint NOT NULL,
    UNIQUE (tenant_id, vendor, symbol, expiry, option_type, strike)
);

CREATE TABLE mds_internal.fundamental_series (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES mds_internal.tenants,
    vendor      text COLLATE "C" NOT NULL,
    symbol      text COLLATE "C" NOT NULL,
    UNIQUE (tenant_id, vendor, symbol)
);

CREATE TABLE mds_internal.news_item_series (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES mds_internal.tenants,
    vendor      text COLLATE "C" NOT NULL,
    UNIQUE (tenant_id, vendor)
);

-- One table of bars a timeframe: each can be partitioned, compressed and forgotten by
-- itself. The view shows them as one, and a query that names its timeframe reads one.
-- It is sealed as those below.
-- +goose StatementBegin
DO $$
DECLARE
    tf     text;
    parts  text[] := '{}';
BEGIN
    FOREACH tf IN ARRAY ARRAY['1s', '5s', '10s', '15s', '30s', '1m', '2m', '3m', '5m', '10m', '15m', '30m',
                              '1h', '2h', '3h', '4h', '6h', '8h', '12h', '1d', '1w', '1mo'] LOOP
        EXECUTE format('CREATE TABLE mds_internal.%I (
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
            PRIMARY KEY (series_id, ts))', 'bar_facts_' || tf);
        EXECUTE format('CREATE INDEX ON mds_internal.%I USING brin (ts)', 'bar_facts_' || tf);
        parts := parts || format('SELECT s.vendor, s.symbol, s.timeframe, f.ts, f.open, f.high, f.low, f.close,
                   f.volume, f.vwap, f.trade_count, f.updated_at
            FROM mds_internal.%I f JOIN mds_internal.bar_series s ON s.id = f.series_id
            WHERE s.timeframe = %L AND s.tenant_id = mds_internal.current_tenant()', 'bar_facts_' || tf, tf);
    END LOOP;
    EXECUTE 'CREATE VIEW mds.bars WITH (security_barrier) AS ' || array_to_string(parts, ' UNION ALL ');
END $$;
-- +goose StatementEnd

CREATE TABLE mds_internal.option_facts (
    series_id     bigint NOT NULL,
    ts            timestamptz NOT NULL,
    bid           double precision,
    ask           double precision,
    last          double precision,
    iv            double precision,
    delta         double precision,
    gamma         double precision,
    theta         double precision,
    vega          double precision,
    rho           double precision,
    open_interest double precision,
    volume        double precision,
    spot          double precision,
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (series_id, ts)
);
CREATE INDEX ON mds_internal.option_facts USING brin (ts);

CREATE TABLE mds_internal.fundamental_facts (
    series_id          bigint NOT NULL,
    period             text COLLATE "C" NOT NULL,
    filed_at           timestamptz NOT NULL,
    "asof"             date NOT NULL,
    revenue            double precision,
    operating_income   double precision,
    net_income         double precision,
    total_assets       double precision,
    total_liabilities  double precision,
    total_equity       double precision,
    eps                double precision,
    shares_outstanding double precision,
    currency           text COLLATE "C",
    form               text COLLATE "C",
    accession          text COLLATE "C",
    extra              jsonb NOT NULL,
    updated_at         timestamptz NOT NULL,
    PRIMARY KEY (series_id, period, "asof", filed_at)
);

CREATE TABLE mds_internal.news_item_facts (
    series_id       bigint NOT NULL,
    id              text COLLATE "C" NOT NULL,
    published_at    timestamptz NOT NULL,
    title           text COLLATE "C" NOT NULL,
    symbols         text[] COLLATE "C" NOT NULL,
    url             text COLLATE "C",
    summary         text COLLATE "C",
    sentiment_score double precision,
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (series_id, id)
);
CREATE INDEX ON mds_internal.news_item_facts (published_at);
CREATE INDEX ON mds_internal.news_item_facts USING gin (symbols);

-- What people read. Facts have no tenant: a view joins them to the series of the one
-- that the session may see, and a query cannot look past it (security_barrier).
CREATE VIEW mds.options WITH (security_barrier) AS
SELECT s.vendor, s.symbol, s.expiry, s.option_type, (s.strike * 0.000000001)::numeric(18,9) AS strike, f.ts, f.bid, f.ask, f.last, f.iv, f.delta, f.gamma, f.theta, f.vega, f.rho, f.open_interest, f.volume, f.spot, f.updated_at
FROM mds_internal.option_facts f JOIN mds_internal.option_series s ON s.id = f.series_id
WHERE s.tenant_id = mds_internal.current_tenant();

CREATE VIEW mds.fundamentals WITH (security_barrier) AS
SELECT s.vendor, s.symbol, f.period, f.filed_at, f."asof", f.revenue, f.operating_income, f.net_income, f.total_assets, f.total_liabilities, f.total_equity, f.eps, f.shares_outstanding, f.currency, f.form, f.accession, f.extra, f.updated_at
FROM mds_internal.fundamental_facts f JOIN mds_internal.fundamental_series s ON s.id = f.series_id
WHERE s.tenant_id = mds_internal.current_tenant();

CREATE VIEW mds.news WITH (security_barrier) AS
SELECT s.vendor, f.id, f.published_at, f.title, f.symbols, f.url, f.summary, f.sentiment_score, f.updated_at
FROM mds_internal.news_item_facts f JOIN mds_internal.news_item_series s ON s.id = f.series_id
WHERE s.tenant_id = mds_internal.current_tenant();

CALL mds_internal.seal('mds_internal.bar_series');
CALL mds_internal.seal('mds_internal.option_series');
CALL mds_internal.seal('mds_internal.fundamental_series');
CALL mds_internal.seal('mds_internal.news_item_series');

-- A session sees its own tenant and its own login; the store's and the owner's see all.
ALTER TABLE mds_internal.tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE mds_internal.tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON mds_internal.tenants
    USING ((SELECT mds_internal.is_service()) OR id = (SELECT mds_internal.current_tenant()) OR (SELECT mds_internal.is_owner()));
ALTER TABLE mds_internal.service_logins ENABLE ROW LEVEL SECURITY;
ALTER TABLE mds_internal.service_logins FORCE ROW LEVEL SECURITY;
CREATE POLICY of_login ON mds_internal.service_logins
    USING (login = session_user OR (SELECT mds_internal.is_owner()));
ALTER TABLE mds_internal.tenant_logins ENABLE ROW LEVEL SECURITY;
ALTER TABLE mds_internal.tenant_logins FORCE ROW LEVEL SECURITY;
CREATE POLICY of_login ON mds_internal.tenant_logins
    USING (login = session_user OR (SELECT mds_internal.is_service()) OR (SELECT mds_internal.is_owner()));
