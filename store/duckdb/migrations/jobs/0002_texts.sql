-- Long texts of jobs, in pieces: a checkpoint has 2,048 rows of a column in memory at once, which
-- is bounded. A job whose params are '' has its text here: its params in the first line, and each of
-- its symbols in one.
CREATE TABLE job_texts (
    job_id BIGINT  NOT NULL,
    piece  INTEGER NOT NULL,
    text   VARCHAR NOT NULL
);
INSERT INTO job_texts
    SELECT id, piece, substr(text, piece * 1000 + 1, 1000)
    FROM (SELECT id, array_to_string(list_prepend(params, symbols), chr(10)) AS text FROM jobs
          WHERE strlen(params) + strlen(array_to_string(symbols, '')) > 1000),
        LATERAL (SELECT unnest(range((length(text) + 999) // 1000)) AS piece)
    ORDER BY id, piece;
UPDATE jobs SET params = '', symbols = [] WHERE id IN (SELECT job_id FROM job_texts);
