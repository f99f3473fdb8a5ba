-- What is kept of each kind, of bars of each timeframe. Times are microseconds since 1970,
-- as far as the store alone reads them. kept_from is the time before which records were
-- dropped, none where it is missing.
CREATE TABLE policies (
    kind           VARCHAR NOT NULL,
    timeframe      VARCHAR NOT NULL,
    partition      VARCHAR NOT NULL,
    compress_after VARCHAR NOT NULL,
    drop_after     VARCHAR NOT NULL,
    rollups        VARCHAR NOT NULL, -- with commas between them
    zone           VARCHAR NOT NULL,
    kept_from      BIGINT,
    refreshed_at   BIGINT
);

-- Where series were written or deleted (gone) since rollups were made of them: who writes
-- notes it in the same transaction. spans has the n stretches of series, which
-- internal/rollup reads, all of them between first and last.
CREATE SEQUENCE touched_id;
CREATE TABLE touched (
    id        BIGINT  NOT NULL,
    timeframe VARCHAR NOT NULL,
    first     BIGINT  NOT NULL,
    last      BIGINT  NOT NULL,
    n         BIGINT  NOT NULL,
    spans     BLOB    NOT NULL,
    gone      BOOLEAN NOT NULL,
    noted_at  BIGINT  NOT NULL
);

-- What was done that cannot be undone.
CREATE TABLE audit (
    done_at TIMESTAMP NOT NULL,
    login   VARCHAR   NOT NULL,
    action  VARCHAR   NOT NULL,
    about   VARCHAR   NOT NULL,
    detail  VARCHAR   NOT NULL
);

CREATE TABLE bar_rollup_series (
    id        BIGINT  NOT NULL PRIMARY KEY,
    vendor    VARCHAR NOT NULL,
    symbol    VARCHAR NOT NULL,
    timeframe VARCHAR NOT NULL,
    source    VARCHAR NOT NULL,
    UNIQUE (vendor, symbol, timeframe, source)
);

CREATE TABLE bar_rollup_facts (
    series_id   BIGINT    NOT NULL,
    ts          TIMESTAMP NOT NULL,
    open        DOUBLE,
    high        DOUBLE,
    low         DOUBLE,
    close       DOUBLE    NOT NULL,
    volume      DOUBLE,
    vwap        DOUBLE,
    trade_count BIGINT,
    updated_at  TIMESTAMP NOT NULL
);

CREATE VIEW rollups AS
SELECT s.vendor, s.symbol, s.timeframe, s.source, f.ts,
       f.open, f.high, f.low, f.close, f.volume, f.vwap, f.trade_count, f.updated_at
FROM bar_rollup_facts f JOIN bar_rollup_series s ON s.id = f.series_id;
