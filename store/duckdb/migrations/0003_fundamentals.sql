-- Each filing's word on a period is a row: period and filed_at tell the rows of
-- a company and a day apart.
CREATE TABLE fundamental_series (
    id     BIGINT  NOT NULL PRIMARY KEY,
    vendor VARCHAR NOT NULL,
    symbol VARCHAR NOT NULL,
    UNIQUE (vendor, symbol)
);

CREATE TABLE fundamental_facts (
    series_id          BIGINT    NOT NULL,
    period             VARCHAR   NOT NULL,
    filed_at           TIMESTAMP NOT NULL,
    "asof"             DATE      NOT NULL,
    revenue            DOUBLE,
    operating_income   DOUBLE,
    net_income         DOUBLE,
    total_assets       DOUBLE,
    total_liabilities  DOUBLE,
    total_equity       DOUBLE,
    eps                DOUBLE,
    shares_outstanding DOUBLE,
    currency           VARCHAR,
    form               VARCHAR,
    accession          VARCHAR,
    extra              MAP(VARCHAR, DOUBLE) NOT NULL,
    updated_at         TIMESTAMP NOT NULL
);

CREATE VIEW fundamentals AS
SELECT s.vendor, s.symbol, f.period, f.filed_at, f."asof",
       f.revenue, f.operating_income, f.net_income, f.total_assets, f.total_liabilities, f.total_equity,
       f.eps, f.shares_outstanding, f.currency, f.form, f.accession, f.extra, f.updated_at
FROM fundamental_facts f JOIN fundamental_series s ON s.id = f.series_id;
