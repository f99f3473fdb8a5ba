CREATE TABLE option_series (
    id          BIGINT        NOT NULL PRIMARY KEY,
    vendor      VARCHAR       NOT NULL,
    symbol      VARCHAR       NOT NULL,
    expiry      DATE          NOT NULL,
    option_type VARCHAR       NOT NULL,
    strike      DECIMAL(18,9) NOT NULL,
    UNIQUE (vendor, symbol, expiry, option_type, strike)
);

CREATE TABLE option_facts (
    series_id     BIGINT    NOT NULL,
    ts            TIMESTAMP NOT NULL,
    bid           DOUBLE,
    ask           DOUBLE,
    last          DOUBLE,
    iv            DOUBLE,
    delta         DOUBLE,
    gamma         DOUBLE,
    theta         DOUBLE,
    vega          DOUBLE,
    rho           DOUBLE,
    open_interest DOUBLE,
    volume        DOUBLE,
    spot          DOUBLE,
    updated_at    TIMESTAMP NOT NULL
);

CREATE VIEW options AS
SELECT s.vendor, s.symbol, s.expiry, s.option_type, s.strike, f.ts,
       f.bid, f.ask, f.last, f.iv, f.delta, f.gamma, f.theta, f.vega, f.rho,
       f.open_interest, f.volume, f.spot, f.updated_at
FROM option_facts f JOIN option_series s ON s.id = f.series_id;
