package duckdb

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

const keptAnswers = "kept_answers"

// hashOf is what the answer with a key is looked up by.
func hashOf(key string) int64 {
	sum := sha256.Sum256([]byte(key))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// tooOld is the time, in microseconds, that answers have to be kept after to be found.
func tooOld() int64 { return time.Now().Add(-mds.AnswersKeptFor).UnixMicro() }

// KeptAnswer finds the answer to a tenant's request with an idempotency key.
func (s *Store) KeptAnswer(ctx context.Context, tenant mds.Tenant, key string) (answer mds.KeptAnswer, found bool, err error) {
	f, err := s.file(ctx, tenant)
	if err != nil {
		return answer, false, err
	}
	err = f.snapshot(ctx, false, func(conn *reader) error {
		there, err := f.hasTable(ctx, conn, keptAnswers)
		if err != nil || !there {
			return err
		}
		kept, err := keptOf(ctx, conn, []string{key})
		answer, found = kept[key]
		return err
	})
	return answer, found, wrap(ctx, "kept answer", err)
}

// keptOf are the answers that are kept of keys.
func keptOf(ctx context.Context, conn *reader, keys []string) (map[string]mds.KeptAnswer, error) {
	hashes := make([]string, len(keys))
	for i, key := range keys {
		hashes[i] = strconv.FormatInt(hashOf(key), 10)
	}
	kept := make(map[string]mds.KeptAnswer)
	query := "SELECT key, operation, head_sha256, body_sha256, status, body, kept_at FROM kept_answers WHERE key_hash IN (" + strings.Join(hashes, ", ") + ") AND kept_at > ? ORDER BY kept_at"
	err := eachRow(ctx, conn, query, []any{tooOld()}, func(values []driver.Value) error {
		a, err := readKept(values)
		if _, ok := kept[a.Key]; err != nil || ok || !slices.Contains(keys, a.Key) {
			return err
		}
		kept[a.Key] = a
		return nil
	})
	return kept, err
}

func readKept(values []driver.Value) (a mds.KeptAnswer, err error) {
	var errs [7]error
	var head, body []byte
	var status int32
	var at int64
	a.Key, errs[0] = read[string](values[0])
	a.Operation, errs[1] = read[string](values[1])
	head, errs[2] = read[[]byte](values[2])
	body, errs[3] = read[[]byte](values[3])
	status, errs[4] = read[int32](values[4])
	a.Body, errs[5] = read[[]byte](values[5])
	at, errs[6] = read[int64](values[6])
	if err := errors.Join(errs[:]...); err != nil {
		return a, err
	}
	a.Status, a.Body, a.At = int(status), slices.Clone(a.Body), time.UnixMicro(at).UTC()
	if copy(a.HeadSHA256[:], head) != sha256.Size || copy(a.BodySHA256[:], body) != sha256.Size {
		return a, fmt.Errorf("the answer kept of %q has no SHA-256", a.Key)
	}
	return a, nil
}

// KeepAnswer keeps an answer, unless one with its key is kept, and returns the one that is.
// Those that wait for their turn together are kept in one transaction, which removes some
// that are too old.
func (s *Store) KeepAnswer(ctx context.Context, tenant mds.Tenant, answer mds.KeptAnswer) (mds.KeptAnswer, error) {
	if err := answer.Validate(); err != nil {
		return mds.KeptAnswer{}, err
	}
	if s.cfg.ReadOnly {
		return mds.KeptAnswer{}, errReadOnly
	}
	f, err := s.file(ctx, tenant)
	if err != nil {
		return mds.KeptAnswer{}, err
	}
	const op = "keep answer"
	w := &pending[mds.KeptAnswer]{ctx: ctx, records: []mds.KeptAnswer{answer}, bytes: len(answer.Body), done: make(chan struct{})}
	queue := queueOf[mds.KeptAnswer](f, keptAnswers)
	queue.push(w)
	if err := f.lockWriterUnless(ctx, w.done); err != nil {
		if queue.remove(w) {
			return mds.KeptAnswer{}, wrap(ctx, op, err)
		}
		<-w.done // another one is keeping it, and knows how that ends
		return w.records[0], wrap(ctx, op, w.err)
	}
	defer f.unlockWriter()
	for {
		select {
		case <-w.done:
			return w.records[0], wrap(ctx, op, w.err)
		default:
			f.keepTogether(queue.take())
		}
	}
}

// keepTogether keeps answers in one transaction, and puts the one that is kept in the place
// of each. The caller holds the writer's token.
func (f *file) keepTogether(waiting []*pending[mds.KeptAnswer]) {
	err := errors.New("the answers were abandoned") // by one that panicked
	defer func() {
		for _, w := range waiting {
			w.finish(mds.Receipt{}, err)
		}
	}()
	waiting = slices.DeleteFunc(waiting, func(w *pending[mds.KeptAnswer]) bool {
		err := w.ctx.Err()
		if err != nil {
			w.finish(mds.Receipt{}, err)
		}
		return err != nil
	})
	if len(waiting) == 0 {
		return
	}
	ctx, cancel := together(waiting)
	defer cancel()
	if err = f.keepAnswers(ctx, waiting); err != nil {
		f.noteWrite(err)
		return
	}
	f.checkpoint(ctx)
}

func (f *file) keepAnswers(ctx context.Context, waiting []*pending[mds.KeptAnswer]) error {
	if err := f.repair(ctx); err != nil {
		return err
	}
	// One that a reader sees before it is committed (see inTransaction) is true all the same.
	return f.inTransaction(ctx, false, func() error {
		keys := make([]string, len(waiting))
		for i, w := range waiting {
			keys[i] = w.records[0].Key
		}
		kept, err := keptOf(ctx, f.writerReads(), keys)
		if err != nil {
			return err
		}
		var fresh []mds.KeptAnswer
		for _, w := range waiting {
			a := &w.records[0]
			first, ok := kept[a.Key]
			if !ok {
				kept[a.Key] = *a
				fresh = append(fresh, *a)
				continue
			}
			*a = first
		}
		// More are removed than come.
		if _, err := f.conn.ExecContext(ctx, "DELETE FROM kept_answers WHERE rowid IN (SELECT rowid FROM kept_answers WHERE kept_at <= ? LIMIT ?)", tooOld(), 100+2*len(fresh)); err != nil {
			return err
		}
		return f.insertKept(ctx, fresh)
	})
}

func (f *file) insertKept(ctx context.Context, answers []mds.KeptAnswer) error {
	const most = 100 // rows of a statement
	const smallBody = 4 << 10
	for some := range slices.Chunk(answers, most) {
		var args []any
		for i := range some {
			a := &some[i]
			// Clones: cgo takes no bytes that lie beside pointers.
			args = append(args, hashOf(a.Key), a.Key, a.Operation, slices.Clone(a.HeadSHA256[:]), slices.Clone(a.BodySHA256[:]), a.Status, slices.Clone(a.Body), a.At.UnixMicro())
			f.texts = f.texts || len(a.Body) > smallBody
		}
		text := "INSERT INTO kept_answers VALUES " + strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?, ?, ?, ?, ?), ", len(some)), ", ")
		if _, err := f.conn.ExecContext(ctx, text, args...); err != nil {
			return err
		}
	}
	return nil
}
