-- The key is vendor and id: a correction of the time updates the row.
CREATE TABLE news_item_series (
    id     BIGINT  NOT NULL PRIMARY KEY,
    vendor VARCHAR NOT NULL,
    UNIQUE (vendor)
);

CREATE TABLE news_item_facts (
    series_id       BIGINT    NOT NULL,
    id              VARCHAR   NOT NULL,
    published_at    TIMESTAMP NOT NULL,
    title           VARCHAR   NOT NULL,
    symbols         VARCHAR[] NOT NULL,
    url             VARCHAR,
    summary         VARCHAR,
    sentiment_score DOUBLE,
    updated_at      TIMESTAMP NOT NULL
);

CREATE VIEW news AS
SELECT s.vendor, f.id, f.published_at, f.title, f.symbols, f.url, f.summary, f.sentiment_score, f.updated_at
FROM news_item_facts f JOIN news_item_series s ON s.id = f.series_id;
