package postgres

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/marketdatastore/mds"
)

// checkedColumns are what the service's login may read of an API key: what checking one
// takes.
var checkedColumns = []string{"id", "tenant_id", "scopes", "secret_sha256", "expires_at", "revoked_at"}

// keyAccess leaves the connections alone that queries keep for as long as they last: keys
// are checked while those are all taken, too.
var keyAccess = access{begin: readAccess.begin, settings: common, way: "check"}

// APIKeys are the keys of all tenants, without names and times of creation.
func (s *Store) APIKeys(ctx context.Context) (keys []mds.APIKey, err error) {
	leave, err := s.enter(false)
	if err != nil {
		return nil, err
	}
	defer leave()
	err = s.transaction(ctx, mds.Tenant{}, keyAccess, func(w *work) error {
		rows, err := w.Query(ctx, "SELECT k.id, t.id::text, t.slug, '', k.scopes, k.secret_sha256, NULL::timestamptz, k.expires_at, k.revoked_at FROM mds_internal.api_keys k JOIN mds_internal.tenants t ON t.id = k.tenant_id")
		if err == nil {
			keys, err = pgx.CollectRows(rows, scanKey)
		}
		return err
	})
	return keys, wrap(ctx, "API keys", err)
}

func scanKey(row pgx.CollectableRow) (k mds.APIKey, err error) {
	var scopes []string
	var hash []byte
	var created, expires, revoked *time.Time
	if err := row.Scan(&k.ID, &k.Tenant.ID, &k.Tenant.Slug, &k.Name, &scopes, &hash, &created, &expires, &revoked); err != nil {
		return k, err
	}
	if copy(k.SecretSHA256[:], hash) != sha256.Size {
		return k, fmt.Errorf("the key %s has no SHA-256", k.ID)
	}
	for _, scope := range scopes {
		k.Scopes = append(k.Scopes, mds.Scope(scope))
	}
	for to, from := range map[*time.Time]*time.Time{&k.Created: created, &k.Expires: expires, &k.Revoked: revoked} {
		if from != nil {
			*to = from.UTC()
		}
	}
	return k, nil
}

// Keys are the API keys of a database, for its owner. Each call is a session of its own.
type Keys struct{ owner string }

// OpenKeys returns the keys of the database of the owner's DSN.
func OpenKeys(ctx context.Context, owner string) (*Keys, error) {
	k := &Keys{owner}
	return k, k.transaction(ctx, func(tx pgx.Tx) error {
		var there bool
		err := tx.QueryRow(ctx, "SELECT to_regclass('mds_internal.api_keys') IS NOT NULL").Scan(&there)
		if err == nil && !there {
			err = &Error{Op: "API keys", Class: Other, Err: errors.New("the database has no API keys yet"), Hint: "let the owner run mds migrate"}
		}
		return err
	})
}

// transaction runs fn in a transaction of the owner's.
func (k *Keys) transaction(ctx context.Context, fn func(tx pgx.Tx) error) error {
	return asOwner(ctx, k.owner, func(tx pgx.Tx, _ string) error {
		if err := refuseOthers(ctx, tx, "API keys"); err != nil {
			return err
		}
		return wrap(ctx, "API keys", fn(tx))
	})
}

// Tenant finds a tenant by slug or UUID. The error wraps [mds.ErrUnknownTenant].
func (k *Keys) Tenant(ctx context.Context, slugOrID string) (mds.Tenant, error) {
	return FindTenant(ctx, k.owner, slugOrID)
}

// Create keeps a new key. The error wraps [mds.ErrUnknownTenant] where there is none.
func (k *Keys) Create(ctx context.Context, key mds.APIKey) error {
	if err := key.Validate(); err != nil {
		return err
	}
	return k.transaction(ctx, func(tx pgx.Tx) error { return insertKey(ctx, tx, &key) })
}

// insertKey keeps a key of a tenant that is there, and stays until the transaction ends.
func insertKey(ctx context.Context, tx pgx.Tx, key *mds.APIKey) error {
	scopes := make([]string, len(key.Scopes))
	for i, scope := range key.Scopes {
		scopes[i] = string(scope)
	}
	made, err := tx.Exec(ctx, `INSERT INTO mds_internal.api_keys (id, tenant_id, name, scopes, secret_sha256, created_at, expires_at, revoked_at)
		SELECT $1, t.id, $4, $5::text[], $6::bytea, $7::timestamptz, $8::timestamptz, $9::timestamptz FROM mds_internal.tenants t WHERE t.id = $2::uuid AND t.slug = $3 FOR KEY SHARE`,
		key.ID, key.Tenant.ID, key.Tenant.Slug, key.Name, scopes, key.SecretSHA256[:], key.Created, orNull(key.Expires), orNull(key.Revoked))
	if err == nil && made.RowsAffected() == 0 {
		return unknownTenant(key.Tenant.Slug)
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.ConstraintName == "api_keys_scopes_check" {
		return &Error{Op: "create", Class: Other, Err: fmt.Errorf("the database does not know all of the scopes %s yet", strings.Join(scopes, ", ")), Hint: "let the owner run mds migrate"}
	}
	return err
}

// orNull is NULL of the zero time.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

const selectKeys = "SELECT k.id, t.id::text, t.slug, k.name, k.scopes, k.secret_sha256, k.created_at, k.expires_at, k.revoked_at FROM mds_internal.api_keys k JOIN mds_internal.tenants t ON t.id = k.tenant_id "

// List lists the keys in order of their creation.
func (k *Keys) List(ctx context.Context) (keys []mds.APIKey, err error) {
	err = k.transaction(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, selectKeys+"ORDER BY k.created_at, k.id")
		if err == nil {
			keys, err = pgx.CollectRows(rows, scanKey)
		}
		return err
	})
	return keys, err
}

// lockKey reads a key that nobody else changes until the transaction ends.
func lockKey(ctx context.Context, tx pgx.Tx, id string) (mds.APIKey, error) {
	rows, err := tx.Query(ctx, selectKeys+"WHERE k.id = $1 FOR NO KEY UPDATE OF k", id)
	if err != nil {
		return mds.APIKey{}, err
	}
	key, err := pgx.CollectExactlyOneRow(rows, scanKey)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("%w %q", mds.ErrUnknownKey, id)
	}
	return key, err
}

// Rotate has a new key take the place of one that works until a time; see
// [mds.APIKey.Rotate]. It returns both as they are kept. The error wraps
// [mds.ErrUnknownKey] or [mds.ErrKeyEnded].
func (k *Keys) Rotate(ctx context.Context, id string, next mds.APIKey, until time.Time) (before, after mds.APIKey, err error) {
	err = k.transaction(ctx, func(tx pgx.Tx) error {
		if before, err = lockKey(ctx, tx, id); err != nil {
			return err
		}
		if err := before.Rotate(&next, until); err != nil {
			return err
		}
		if err := next.Validate(); err != nil {
			return err
		}
		if err := insertKey(ctx, tx, &next); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "UPDATE mds_internal.api_keys SET expires_at = $2::timestamptz WHERE id = $1", id, orNull(before.Expires))
		return err
	})
	return before, next, err
}

// Revoke ends a key at a time, unless it was revoked before, and returns it as it is kept.
// The error wraps [mds.ErrUnknownKey].
func (k *Keys) Revoke(ctx context.Context, id string, at time.Time) (key mds.APIKey, err error) {
	err = k.transaction(ctx, func(tx pgx.Tx) error {
		if key, err = lockKey(ctx, tx, id); err != nil || !key.Revoked.IsZero() {
			return err
		}
		key.Revoked = at.UTC().Truncate(time.Microsecond)
		_, err := tx.Exec(ctx, "UPDATE mds_internal.api_keys SET revoked_at = $2::timestamptz WHERE id = $1", id, key.Revoked)
		return err
	})
	return key, err
}
