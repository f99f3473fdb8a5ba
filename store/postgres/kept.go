package postgres

import (
	"context"
	"crypto/sha256"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
)

// What is too old is so by the server's clock. Those who remove it leave each other's alone.
const (
	keptFor  = "interval '24 hours'" // [mds.AnswersKeptFor]
	readKept = "SELECT key, operation, head_sha256, body_sha256, status, body, kept_at FROM mds_internal.kept_answers WHERE tenant_id = $1::uuid AND key = $2 AND kept_at > now() - " + keptFor
	keep     = `INSERT INTO mds_internal.kept_answers AS k (tenant_id, key, operation, head_sha256, body_sha256, status, body, kept_at) VALUES ($1::uuid, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (tenant_id, key) DO UPDATE SET operation = excluded.operation, head_sha256 = excluded.head_sha256, body_sha256 = excluded.body_sha256, status = excluded.status, body = excluded.body, kept_at = excluded.kept_at
		WHERE k.kept_at <= now() - ` + keptFor
	removeKept = "DELETE FROM mds_internal.kept_answers WHERE tenant_id = $1::uuid AND key = ANY (ARRAY(SELECT key FROM mds_internal.kept_answers WHERE tenant_id = $1::uuid AND key <> $2 AND kept_at <= now() - " + keptFor + " ORDER BY kept_at LIMIT 100 FOR UPDATE SKIP LOCKED))"
)

// KeptAnswer finds the answer to a tenant's request with an idempotency key.
func (s *Store) KeptAnswer(ctx context.Context, tenant mds.Tenant, key string) (answer mds.KeptAnswer, found bool, err error) {
	leave, err := s.enter(false)
	if err != nil {
		return answer, false, err
	}
	defer leave()
	err = s.inTransaction(ctx, tenant, keyAccess, func(w *work) error {
		answer, found, err = w.keptAnswer(ctx, key)
		return err
	})
	return answer, found, wrap(ctx, "kept answer", err)
}

func (w *work) keptAnswer(ctx context.Context, key string) (answer mds.KeptAnswer, found bool, err error) {
	rows, err := w.Query(ctx, readKept, w.tenant.ID, key)
	if err != nil {
		return answer, false, err
	}
	answer, err = pgx.CollectExactlyOneRow(rows, scanKept)
	if errors.Is(err, pgx.ErrNoRows) {
		return answer, false, nil
	}
	return answer, err == nil, err
}

func scanKept(row pgx.CollectableRow) (a mds.KeptAnswer, err error) {
	var head, body []byte
	if err := row.Scan(&a.Key, &a.Operation, &head, &body, &a.Status, &a.Body, &a.At); err != nil {
		return a, err
	}
	a.At = a.At.UTC()
	if copy(a.HeadSHA256[:], head) != sha256.Size || copy(a.BodySHA256[:], body) != sha256.Size {
		return a, errors.New("a kept answer has no SHA-256")
	}
	return a, nil
}

// KeepAnswer keeps an answer, unless one with its key is kept, and returns the one that is.
// It removes some that are too old.
func (s *Store) KeepAnswer(ctx context.Context, tenant mds.Tenant, answer mds.KeptAnswer) (kept mds.KeptAnswer, err error) {
	if err := answer.Validate(); err != nil {
		return kept, err
	}
	if s.cfg.ReadOnly {
		return kept, errReadOnly
	}
	leave, err := s.enter(true)
	if err != nil {
		return kept, err
	}
	defer leave()
	err = retrying(ctx, func(int) error {
		return wrap(ctx, "keep answer", s.inTransaction(ctx, tenant, changeAccess, func(w *work) error {
			kept = answer
			return w.keepAnswer(ctx, &kept)
		}))
	})
	return kept, err
}

func (w *work) keepAnswer(ctx context.Context, a *mds.KeptAnswer) error {
	made, err := w.Exec(ctx, keep, w.tenant.ID, a.Key, a.Operation, a.HeadSHA256[:], a.BodySHA256[:], a.Status, a.Body, a.At)
	if err != nil {
		return err
	}
	if made.RowsAffected() == 0 {
		first, found, err := w.keptAnswer(ctx, a.Key)
		if err == nil && !found { // it was removed meanwhile, as it became too old
			err = &Error{Op: "keep answer", Class: Conflict, Err: errors.New("another one with the key was removed")}
		}
		*a = first
		return err
	}
	_, err = w.Exec(ctx, removeKept, w.tenant.ID, a.Key)
	return err
}
