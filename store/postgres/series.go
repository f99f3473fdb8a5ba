package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/batches"
)

// maxIDs bounds the identities that are remembered: of the newest half at least, the
// others are forgotten by and by, and looked up again.
const maxIDs = 1 << 20

// seriesIDs remembers the ids of identities, of all tenants, for as long as the token
// is the same.
type seriesIDs struct {
	mu       sync.RWMutex
	token    string
	ids, old map[string]*seriesEntry
}

// get finds what is remembered. The lock is held.
func (k *seriesIDs) get(key []byte) *seriesEntry {
	if e := k.ids[string(key)]; e != nil {
		return e
	}
	return k.old[string(key)]
}

// use forgets what another token was for.
func (k *seriesIDs) use(token string) {
	k.mu.RLock()
	same := k.token == token
	k.mu.RUnlock()
	if same {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.token != token {
		k.token, k.ids, k.old = token, nil, nil
	}
}

// seriesEntry is what is known of a series.
type seriesEntry struct {
	id int64
	// last is the time after which this process believes that nothing is stored: a
	// hint, since others write too. Where it is wrong the key of the table tells.
	last atomic.Int64
}

// unknown is the last of a series of which nothing is known: no time is after it.
const unknown = math.MaxInt64

func newEntry(id int64) *seriesEntry {
	e := &seriesEntry{id: id}
	e.last.Store(unknown)
	return e
}

// noteCopied is for when a batch of rows up to micros was copied.
func (e *seriesEntry) noteCopied(micros int64) {
	for {
		last := e.last.Load()
		if last != unknown && last >= micros || e.last.CompareAndSwap(last, micros) {
			return
		}
	}
}

func (k *seriesIDs) put(token string, keys []string, entries []*seriesEntry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.token != token {
		return
	}
	if k.ids == nil || len(k.ids)+len(keys) > maxIDs/2 {
		k.ids, k.old = make(map[string]*seriesEntry), k.ids
	}
	for i, key := range keys {
		k.ids[key] = entries[i]
	}
}

// resolve fills the arranger's rows: the series of each record, its time and its key.
// Identities that are new are stored, and remembered once that is committed.
func (t *Table[R]) resolve(ctx context.Context, w *work, a *arranger, records []R) error {
	missing := t.look(w, a, records)
	if len(missing) == 0 {
		return nil
	}
	keys := slices.Sorted(maps.Keys(missing))
	columns := make([][]string, len(t.identity))
	for _, key := range keys {
		r := &records[missing[key][0]]
		if t.schema.Plain() {
			normal := *r
			t.schema.Normalize(&normal)
			r = &normal
		}
		for c, column := range t.identity {
			columns[c] = append(columns[c], identityText(column, r))
		}
	}
	found, err := t.identify(ctx, w, columns)
	if err != nil {
		return err
	}
	entries := make([]*seriesEntry, len(keys))
	for i, key := range keys {
		entries[i] = newEntry(found[i])
		for _, record := range missing[key] {
			a.rows[record].series, a.entries[record] = found[i], entries[i]
			a.late[a.rows[record].table] = true
		}
	}
	w.committed = append(w.committed, func() { t.ids.put(w.token, keys, entries) })
	return nil
}

// look fills the arranger's rows from what is remembered, and returns the records of
// each identity that is not.
func (t *Table[R]) look(w *work, a *arranger, records []R) (missing map[string][]int) {
	prefix := append(append(a.key[:0], w.tenant.Slug...), 0)
	key := prefix
	t.ids.use(w.token)
	t.ids.mu.RLock()
	defer t.ids.mu.RUnlock()
	known := t.ids.token == w.token // or another one has met another token since
	table, timeframe := int32(0), mds.Timeframe("")
	for i := range records {
		record := &records[i]
		if t.schema.Timeframe != nil {
			if tf := t.schema.Timeframe(record); i == 0 || tf != timeframe {
				table, timeframe = t.tableOf[tf], tf
			}
		}
		r := &a.rows[i]
		*r = row{record: int32(i), table: table, micros: t.schema.Micros(record)}
		if len(t.keys) > 0 {
			a.keys[i] = string(batches.AppendKey(nil, t.keys, record))
		}
		if i > 0 && batches.Same(t.identity, record, &records[i-1]) {
			a.entries[i] = a.entries[i-1]
		} else {
			key = batches.AppendKey(key[:len(prefix)], t.identity, record)
			if a.entries[i] = nil; known {
				a.entries[i] = t.ids.get(key)
			}
		}
		e := a.entries[i]
		if e == nil {
			if missing == nil {
				missing = make(map[string][]int)
			}
			key = batches.AppendKey(key[:len(prefix)], t.identity, record)
			missing[string(key)] = append(missing[string(key)], i)
			continue
		}
		r.series = e.id
		if r.micros <= e.last.Load() {
			a.late[table] = true
		}
	}
	a.key = key
	return missing
}

// identify returns the ids of identities, given by columns, and stores those that are
// new.
func (t *Table[R]) identify(ctx context.Context, w *work, columns [][]string) ([]int64, error) {
	args := []any{w.tenant.ID}
	var unnest, given, cast []string
	for i, c := range t.identity {
		args = append(args, columns[i])
		// Cast as a whole: a cast of each is nothing that policies let an index be asked for.
		unnest = append(unnest, fmt.Sprintf("$%d::text[]::%s[]", i+2, sqlType(c)))
		given = append(given, quote(c.Name))
		cast = append(cast, "b."+quote(c.Name))
	}
	list := strings.Join(given, ", ")
	source := fmt.Sprintf("unnest(%s) WITH ORDINALITY AS b (%s, n)", strings.Join(unnest, ", "), list)
	match := make([]string, len(given))
	for i := range given {
		match[i] = fmt.Sprintf("s.%s = %s", given[i], cast[i])
	}
	// One by one, through the index: what the planner knows of new series is nothing.
	look := fmt.Sprintf("SELECT coalesce((SELECT s.id FROM %s s WHERE s.tenant_id = $1::uuid AND %s LIMIT 1), 0) FROM %s ORDER BY n", t.series, strings.Join(match, " AND "), source)
	// In one order, so that two writers of the same new series do not wait for each other.
	store := fmt.Sprintf("INSERT INTO %s (tenant_id, %s) SELECT $1::uuid, %s FROM %s ORDER BY %[3]s ON CONFLICT DO NOTHING", t.series, list, strings.Join(cast, ", "), source)
	for range 2 {
		rows, err := w.Query(ctx, look, args...)
		if err != nil {
			return nil, err
		}
		ids := make([]int64, 0, len(columns[0]))
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				rows.Close()
				return nil, err
			}
			ids = append(ids, id)
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
		if !slices.Contains(ids, 0) {
			return ids, nil
		}
		if _, err := w.Exec(ctx, store, args...); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("new series are not there after they were stored")
}

// identityText is the value of an identity column as text of its type.
func identityText[R any](c *mds.Column[R], r *R) string {
	if c.Decimal != nil {
		return strconv.FormatInt(int64(*c.Decimal(r)), 10)
	}
	return string(c.AppendText(nil, r))
}

// sqlType is the type of an identity column, or of one of facts that is compared: of a
// decimal that identifies the number of its units, which an index is asked for whatever
// the policies (numeric values are compared by no leakproof function).
func sqlType[R any](c *mds.Column[R]) string {
	switch {
	case c.Date != nil:
		return "date"
	case c.Decimal != nil:
		if c.Role == mds.Identity {
			return "bigint"
		}
		return "numeric"
	case c.Time != nil:
		return "timestamptz"
	}
	return "text"
}
