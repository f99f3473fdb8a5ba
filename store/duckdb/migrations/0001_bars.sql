-- Facts have no key of their own: the one writer of a file deduplicates each
-- batch and merges it, which costs a fifth of the bytes of an index.
CREATE TABLE bar_series (
    id        BIGINT  NOT NULL PRIMARY KEY,
    vendor    VARCHAR NOT NULL,
    symbol    VARCHAR NOT NULL,
    timeframe VARCHAR NOT NULL,
    UNIQUE (vendor, symbol, timeframe)
);

CREATE TABLE bar_facts (
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

CREATE VIEW bars AS
SELECT s.vendor, s.symbol, s.timeframe, f.ts,
       f.open, f.high, f.low, f.close, f.volume, f.vwap, f.trade_count, f.updated_at
FROM bar_facts f JOIN bar_series s ON s.id = f.series_id;
