package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store/postgres"
)

// The names of PostgreSQL's peers: what a program would do that knows the ids of its
// series already.
const (
	namePeerA  = "peer A: pgx CopyFrom, as they come"
	namePeerB  = "peer B: binary COPY encoded by hand, sorted"
	nameUnnest = "peer: INSERT … SELECT unnest … ON CONFLICT DO UPDATE"
	nameSingle = "peer: pgx.Batch of single upserts"
)

// peers are ways of writing to a table like that of minute bars, empty at first, as the
// owner of the database, who may make one.
type peers struct {
	conn *pgx.Conn
	ids  map[string]int64
}

// newPeers connects to the database; close ends it.
func newPeers(ctx context.Context, admin string, market *market) (*peers, error) {
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return nil, fmt.Errorf("the owner's login, which makes the table of the peers: %w", err)
	}
	p := &peers{conn: conn, ids: make(map[string]int64)}
	for i, symbol := range market.symbols {
		p.ids[symbol] = int64(i)
	}
	return p, nil
}

func (p *peers) close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	_, err := p.conn.Exec(ctx, "DROP TABLE IF EXISTS "+peerTable)
	return errors.Join(err, p.conn.Close(ctx))
}

// tidy removes what removed tenants left in the table of minute bars, so that each is
// written to an empty one.
func (p *peers) tidy(ctx context.Context) error {
	_, err := p.conn.Exec(ctx, "VACUUM mds_internal.bar_facts_1m")
	return err
}

// logged is how many bytes the server has written to its log.
func (p *peers) logged(ctx context.Context) (bytes int64, err error) {
	err = p.conn.QueryRow(ctx, "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint").Scan(&bytes)
	return bytes, err
}

const peerTable = "mds_internal.bench_peer"

// measure writes bars in batches by one of the ways.
func (p *peers) measure(ctx context.Context, name string, bars []mds.Bar, size int) (time.Duration, error) {
	for _, text := range []string{"DROP TABLE IF EXISTS " + peerTable, "CREATE TABLE " + peerTable + " (LIKE mds_internal.bar_facts_1m INCLUDING ALL)"} {
		if _, err := p.conn.Exec(ctx, text); err != nil {
			return 0, err
		}
	}
	write := map[string]func(context.Context, []mds.Bar) error{namePeerA: p.copyFrom, namePeerB: p.copySorted, nameUnnest: p.unnest, nameSingle: p.single}[name]
	elapsed, err := timed(func() error {
		for batch := range slices.Chunk(bars, size) {
			if err := write(ctx, batch); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	})
	var n int
	if err == nil {
		err = p.conn.QueryRow(ctx, "SELECT count(*) FROM "+peerTable).Scan(&n)
	}
	if err == nil && n != len(bars) {
		err = fmt.Errorf("%s: %d of %d rows are there", name, n, len(bars))
	}
	return elapsed, err
}

var peerColumns = []string{"series_id", "ts", "open", "high", "low", "close", "volume", "vwap", "trade_count", "updated_at"}

func values(b *mds.Bar) (open, high, low, volume float64) {
	open, _ = b.Open.Value()
	high, _ = b.High.Value()
	low, _ = b.Low.Value()
	volume, _ = b.Volume.Value()
	return open, high, low, volume
}

func (p *peers) copyFrom(ctx context.Context, batch []mds.Bar) error {
	now := time.Now()
	_, err := p.conn.CopyFrom(ctx, pgx.Identifier{"mds_internal", "bench_peer"}, peerColumns, pgx.CopyFromSlice(len(batch), func(i int) ([]any, error) {
		b := &batch[i]
		open, high, low, volume := values(b)
		return []any{p.ids[b.Symbol], b.TS, open, high, low, b.Close, volume, nil, nil, now}, nil
	}))
	return err
}

// copySorted is what is left of COPY without anything but its format.
func (p *peers) copySorted(ctx context.Context, batch []mds.Bar) error {
	type row struct{ series, record int64 }
	rows := make([]row, len(batch))
	for i := range rows {
		rows[i] = row{p.ids[batch[i].Symbol], int64(i)}
	}
	slices.SortFunc(rows, func(a, b row) int { // they come in order of time
		return cmp.Or(cmp.Compare(a.series, b.series), cmp.Compare(a.record, b.record))
	})
	const epoch = 946_684_800_000_000
	now := time.Now().UnixMicro() - epoch
	text := make([]byte, 0, 19+len(batch)*90)
	text = append(text, "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	field := func(v uint64) { text = binary.BigEndian.AppendUint64(append(text, 0, 0, 0, 8), v) }
	for _, r := range rows {
		b := &batch[r.record]
		open, high, low, volume := values(b)
		text = append(text, 0, byte(len(peerColumns)))
		field(uint64(r.series))
		field(uint64(b.TS.UnixMicro() - epoch))
		for _, v := range []float64{open, high, low, b.Close, volume} {
			field(math.Float64bits(v))
		}
		text = append(text, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
		field(uint64(now))
	}
	text = append(text, 0xff, 0xff)
	_, err := p.conn.PgConn().CopyFrom(ctx, bytes.NewReader(text), "COPY "+peerTable+" FROM STDIN (FORMAT binary)")
	return err
}

const onConflict = ` ON CONFLICT (series_id, ts) DO UPDATE SET open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
	volume = excluded.volume, vwap = excluded.vwap, trade_count = excluded.trade_count, updated_at = excluded.updated_at`

func (p *peers) unnest(ctx context.Context, batch []mds.Bar) error {
	n := len(batch)
	ids, ts := make([]int64, n), make([]time.Time, n)
	columns := [5][]float64{}
	for c := range columns {
		columns[c] = make([]float64, n)
	}
	for i := range batch {
		b := &batch[i]
		ids[i], ts[i] = p.ids[b.Symbol], b.TS
		columns[0][i], columns[1][i], columns[2][i], columns[4][i] = values(b)
		columns[3][i] = b.Close
	}
	_, err := p.conn.Exec(ctx, "INSERT INTO "+peerTable+` SELECT i, t, o, h, l, c, v, NULL, NULL, now()
		FROM unnest($1::bigint[], $2::timestamptz[], $3::float8[], $4::float8[], $5::float8[], $6::float8[], $7::float8[]) AS u (i, t, o, h, l, c, v)`+onConflict,
		ids, ts, columns[0], columns[1], columns[2], columns[3], columns[4])
	return err
}

func (p *peers) single(ctx context.Context, rows []mds.Bar) error {
	batch := &pgx.Batch{}
	for i := range rows {
		b := &rows[i]
		open, high, low, volume := values(b)
		batch.Queue("INSERT INTO "+peerTable+" VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, NULL, now())"+onConflict, p.ids[b.Symbol], b.TS, open, high, low, b.Close, volume)
	}
	return p.conn.SendBatch(ctx, batch).Close()
}

// isServer reports a DSN of PostgreSQL.
func isServer(dsn string) bool { return postgres.IsDSN(dsn) }
