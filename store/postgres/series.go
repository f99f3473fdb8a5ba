package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/marketdatastore/mds"
)

// maxIDs bounds the identities that are remembered: past it they are forgotten, and
// looked up again.
const maxIDs = 1 << 20

// seriesIDs remembers the ids of identities, of all tenants.
type seriesIDs struct {
	mu  sync.RWMutex
	ids map[string]int64
}

func (k *seriesIDs) get(key []byte) (int64, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	id, ok := k.ids[string(key)]
	return id, ok
}

func (k *seriesIDs) put(keys []string, ids []int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ids == nil || len(k.ids)+len(keys) > maxIDs {
		k.ids = make(map[string]int64)
	}
	for i, key := range keys {
		k.ids[key] = ids[i]
	}
}

func (t *Table[R]) known() *seriesIDs {
	known, ok := t.store.ids.Load(t.schema.Kind)
	if !ok {
		known, _ = t.store.ids.LoadOrStore(t.schema.Kind, &seriesIDs{})
	}
	return known.(*seriesIDs)
}

// resolve returns the series id of each record. Identities that are new are stored, and
// remembered once that is committed.
func (t *Table[R]) resolve(ctx context.Context, w *work, records []R) ([]int64, error) {
	known := t.known()
	ids := make([]int64, len(records))
	prefix := binary.BigEndian.AppendUint64([]byte(w.tenant.Slug+"\x00"), uint64(w.generation))
	key := slices.Clone(prefix)
	missing := make(map[string][]int)
	for i := range records {
		key = appendKey(key[:len(prefix)], t.identity, &records[i])
		if id, ok := known.get(key); ok {
			ids[i] = id
			continue
		}
		missing[string(key)] = append(missing[string(key)], i)
	}
	if len(missing) == 0 {
		return ids, nil
	}
	// In one order, so that two writers of the same new series do not wait for each other.
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
			columns[c] = append(columns[c], string(column.AppendText(nil, r)))
		}
	}
	found, err := t.identify(ctx, w, columns)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		for _, record := range missing[key] {
			ids[record] = found[i]
		}
	}
	w.found = append(w.found, func() { known.put(keys, found) })
	return ids, nil
}

// identify returns the ids of identities, given by columns, and stores those that are
// new.
func (t *Table[R]) identify(ctx context.Context, w *work, columns [][]string) ([]int64, error) {
	args := []any{w.tenant.ID}
	var unnest, given, cast []string
	for i, c := range t.identity {
		args = append(args, columns[i])
		unnest = append(unnest, fmt.Sprintf("$%d::text[]", i+2))
		given = append(given, quote(c.Name))
		cast = append(cast, "b."+quote(c.Name)+"::"+sqlType(c))
	}
	list := strings.Join(given, ", ")
	source := fmt.Sprintf("unnest(%s) WITH ORDINALITY AS b (%s, n)", strings.Join(unnest, ", "), list)
	match := make([]string, len(given))
	for i := range given {
		match[i] = fmt.Sprintf("s.%s = %s", given[i], cast[i])
	}
	look := fmt.Sprintf("SELECT coalesce(s.id, 0) FROM %s LEFT JOIN %s s ON s.tenant_id = $1::uuid AND %s ORDER BY n", source, t.series, strings.Join(match, " AND "))
	store := fmt.Sprintf("INSERT INTO %s (tenant_id, %s) SELECT $1::uuid, %s FROM %s ORDER BY n ON CONFLICT DO NOTHING", t.series, list, strings.Join(cast, ", "), source)
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

// sqlType is the type of an identity column.
func sqlType[R any](c *mds.Column[R]) string {
	switch {
	case c.Date != nil:
		return "date"
	case c.Decimal != nil:
		return "numeric"
	case c.Time != nil:
		return "timestamptz"
	}
	return "text"
}

// appendKey appends columns so that different values make different keys.
func appendKey[R any](key []byte, columns []*mds.Column[R], record *R) []byte {
	for _, c := range columns {
		switch {
		case c.Text != nil:
			key = append(append(key, *c.Text(record)...), 0) // valid text holds no NUL
		case c.Time != nil:
			key = binary.BigEndian.AppendUint64(key, uint64(c.Time(record).UnixMicro()))
		case c.Date != nil:
			key = binary.BigEndian.AppendUint64(key, uint64(c.Date(record).Time().UnixMicro()))
		case c.Decimal != nil:
			key = binary.BigEndian.AppendUint64(key, uint64(*c.Decimal(record)))
		}
	}
	return key
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
