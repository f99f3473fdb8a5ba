package duckdb

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/marketdatastore/mds"
)

// A checkpoint has thousands of values of a column in memory at once. So what may be long of a
// job, which are its params and symbols, is apart from where it stands, in pieces.
const (
	inlineText = 1_000 // bytes of params and symbols that stand with the job
	textPiece  = 4_000 // bytes
)

// apart is a job without what is long of it, and the pieces of that; none where nothing is.
func apart(job mds.Job) (short mds.Job, pieces []string) {
	lines := append([]string{string(job.Params)}, job.Symbols...) // none of which has a line break
	text := strings.Join(lines, "\n")
	if len(text) <= inlineText {
		return job, nil
	}
	for len(text) > textPiece {
		cut := textPiece
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		pieces, text = append(pieces, text[:cut]), text[cut:]
	}
	job.Params, job.Symbols = nil, nil
	return job, append(pieces, text)
}

// keepTexts keeps the pieces of a job that is made.
func (f *jobFile) keepTexts(ctx context.Context, id string, pieces []string) error {
	for i, text := range pieces {
		if _, err := f.conn.ExecContext(ctx, "INSERT INTO job_texts VALUES ($1::bigint, $2, $3)", id, i, text); err != nil {
			return err
		}
	}
	return nil
}

// whole reads what is apart of a job.
func (f *jobFile) whole(ctx context.Context, job *mds.Job) error {
	if len(job.Params) > 0 {
		return nil
	}
	var text strings.Builder
	err := f.each(ctx, "SELECT text FROM job_texts WHERE job_id = $1::bigint ORDER BY piece", []any{job.ID}, func(v []driver.Value) error {
		piece, err := read[string](v[0])
		text.WriteString(piece)
		return err
	})
	lines := strings.Split(text.String(), "\n")
	job.Params = json.RawMessage(lines[0])
	if len(lines) > 1 {
		job.Symbols = lines[1:]
	}
	return err
}

// forgetRest removes what there is beside of jobs that are gone.
func (f *jobFile) forgetRest(ctx context.Context) error {
	for _, table := range []string{"job_parts", "job_texts"} {
		if _, err := f.conn.ExecContext(ctx, "DELETE FROM "+table+" WHERE job_id NOT IN (SELECT id FROM jobs)"); err != nil {
			return err
		}
	}
	return nil
}
