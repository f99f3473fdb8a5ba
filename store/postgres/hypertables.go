package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
)

// chunkOf is how much time a chunk of a hypertable holds where the policy does not say:
// some million rows of a thousand series.
func chunkOf(p *mds.Policy) mds.Age {
	if !p.Partition.IsZero() {
		return p.Partition
	}
	switch d := p.Timeframe.Duration(); {
	case p.Kind == "options":
		return mds.Age{N: 1, Unit: 'M'}
	case p.Timeframe.Calendar():
		return mds.Age{N: 5, Unit: 'y'}
	case d <= time.Second:
		return mds.Age{N: 1, Unit: 'd'}
	case d <= time.Minute:
		return mds.Age{N: 1, Unit: 'w'}
	case d <= time.Hour:
		return mds.Age{N: 3, Unit: 'M'}
	}
	return mds.Age{N: 1, Unit: 'y'}
}

// interval is an age as one of PostgreSQL.
func interval(a mds.Age) string {
	units := map[byte]string{'h': "hours", 'd': "days", 'w': "weeks", 'M': "months", 'y': "years"}
	return fmt.Sprintf("%d %s", a.N, units[a.Unit])
}

// makeHypertable makes an empty table one. Its chunks compress by series, in order of time.
func (db *catalog) makeHypertable(ctx context.Context, tx pgx.Tx, name string, p *mds.Policy) error {
	// Its own index by time would be read for all tenants; see migration 2.
	_, err := tx.Exec(ctx, fmt.Sprintf("SELECT %[1]s.create_hypertable($1::text::regclass, %[1]s.by_range('ts'::name, $2::text::interval), create_default_indexes => false)", db.timescale), name, interval(chunkOf(p)))
	if err != nil || !db.columnstore {
		return err
	}
	_, err = tx.Exec(ctx, fmt.Sprintf("ALTER TABLE %s SET (timescaledb.compress, timescaledb.compress_segmentby = 'series_id', timescaledb.compress_orderby = 'ts')", name))
	return err
}

// compressionDue finds chunks that are to be compressed: old ones, and those in which
// something came since they were.
func (db *catalog) compressionDue(ctx context.Context, tx pgx.Tx, p *mds.Policy, now time.Time) ([]mds.Step, error) {
	table := db.tables[factsOf(p)]
	if p.CompressAfter.IsZero() || table.shape != hypertable || !db.columnstore {
		return nil, nil
	}
	step := mds.Step{Action: mds.StepCompress, Policy: *p, Before: mds.Day.Truncate(p.CompressAfter.Before(now.UTC()))}
	parts, err := db.parts(ctx, tx, table)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, part := range parts {
		if part.compressed || part.to.After(step.Before) {
			continue
		}
		n++
		step.Rows, step.Bytes = step.Rows+part.rows, step.Bytes+part.bytes
	}
	if n == 0 {
		return nil, nil
	}
	step.Note = fmt.Sprintf("%d chunks", n)
	return []mds.Step{step}, nil
}

// compress compresses chunks, each in a transaction of its own. One that somebody reads or
// writes for long is left for the end, so that others do not wait behind it.
func (k *Keeper) compress(ctx context.Context, step mds.Step) error {
	op := "compress " + step.Policy.Name()
	var left []string
	var timescale string
	err := k.transaction(ctx, op, func(tx pgx.Tx) error {
		if err := inForce(ctx, tx, op, &step.Policy, "compress_after = $2", step.Policy.CompressAfter.String()); err != nil {
			return err
		}
		db, err := look(ctx, tx)
		if err != nil {
			return err
		}
		timescale = db.timescale
		parts, err := db.parts(ctx, tx, db.tables[factsOf(&step.Policy)])
		for _, part := range parts {
			if !part.compressed && !part.to.After(step.Before) {
				left = append(left, part.name)
			}
		}
		return err
	})
	const rounds = 3
	for round := 0; err == nil && len(left) > 0; round++ {
		chunks := left
		left = nil
		for _, chunk := range chunks {
			err = k.transaction(ctx, op, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '2s'"); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, fmt.Sprintf("SELECT %s.compress_chunk($1::text::regclass)", timescale), chunk)
				return err
			})
			var e *Error
			if errors.As(err, &e) && (e.Code == "55P03" || e.Code == "40001" || e.Code == "40P01") && round < rounds {
				left = append(left, chunk)
				err = nil
			}
			if err != nil {
				return err
			}
		}
	}
	return err
}

// whyUncompressed says why nothing is compressed in a database, "" where it is.
func whyUncompressed(ctx context.Context, tx pgx.Tx) (why string, err error) {
	var there, made, loaded, licensed bool
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb'), EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb'),
		current_setting('timescaledb.license', true) IS NOT NULL, coalesce(current_setting('timescaledb.license', true), '') = 'timescale'`).Scan(&there, &made, &loaded, &licensed)
	switch {
	case made && licensed:
		return "", err
	case made && loaded:
		return "the TimescaleDB of this database has a licence without compression (timescaledb.license)", err
	case made:
		return "TimescaleDB is not loaded by the server (shared_preload_libraries)", err
	case there:
		return "this database does not have TimescaleDB, which the server has: CREATE EXTENSION timescaledb, by an administrator", err
	}
	return "PostgreSQL has no compression by age, and this server no TimescaleDB", err
}
