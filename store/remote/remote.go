// Package remote is a store that mds serve serves, at http:// or https://.
//
// It is not quite a store of one's own. A batch is not one transaction: a record that the
// server's store refuses does not undo the others, and the error tells which it is. A receipt
// counts all as written, since the server joins the batches of many. What is done to the store
// rather than with it is done where it is, or by the methods of the client: making keys, and
// putting policies in force.
package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
)

// IsDSN reports whether a DSN is the URL of a server.
func IsDSN(dsn string) bool {
	return strings.HasPrefix(dsn, "http://") || strings.HasPrefix(dsn, "https://")
}

// ElsewhereError is the refusal of what is done to a store itself. It is an
// [errors.ErrUnsupported].
type ElsewhereError struct {
	// What is that, such as "tenants are made".
	What string
}

func (e *ElsewhereError) Error() string { return e.What + " where the store is, not through a server" }

// Is reports that it is an [errors.ErrUnsupported].
func (e *ElsewhereError) Is(target error) bool { return target == errors.ErrUnsupported }

var errReadOnly = errors.New("the store was opened for reading only")

// Config configures a [Store].
type Config struct {
	// Key is an API key.
	Key string
	// ReadOnly refuses to write.
	ReadOnly bool
}

// Store is a store behind a server. It is safe for concurrent use.
type Store struct {
	*client.Client
	readOnly bool
}

// Open returns the store at a URL. It does not connect yet.
func Open(url string, cfg Config) (*Store, error) {
	var own http.Client
	if transport, ok := http.DefaultTransport.(*http.Transport); ok { // not one of the program's making
		own.Transport = transport.Clone() // whose connections are closed with the store
	}
	c, err := client.New(client.Config{URL: url, Key: cfg.Key, HTTPClient: &own})
	if err != nil {
		return nil, err
	}
	return &Store{Client: c, readOnly: cfg.ReadOnly}, nil
}

// Ping checks that the tenant's data can be reached.
func (s *Store) Ping(ctx context.Context, tenant mds.Tenant) error {
	if err := named(tenant); err != nil {
		return err
	}
	_, err := s.SchemaVersion(ctx, tenant)
	return err
}

// named refuses what is no tenant, which a client takes for its own.
func named(tenant mds.Tenant) error {
	if _, err := mds.NewTenant(tenant.Slug); err != nil || tenant.ID == "" {
		return fmt.Errorf("%w %q", mds.ErrUnknownTenant, tenant.Slug)
	}
	return nil
}

// CreateTenant makes a tenant, with the key of an operator. The error wraps
// [mds.ErrTenantExists] where there is one.
func (s *Store) CreateTenant(ctx context.Context, slug string) (mds.Tenant, error) {
	if s.readOnly {
		return mds.Tenant{}, errReadOnly
	}
	made, err := s.MakeTenant(ctx, client.TenantRequest{Tenant: slug})
	if err == nil && !made.Made {
		err = fmt.Errorf("%w: %s", mds.ErrTenantExists, slug)
	}
	if err != nil {
		return mds.Tenant{}, err
	}
	return mds.Tenant{ID: made.ID, Slug: made.Slug}, nil
}

// RemoveTenant removes a tenant and all that it has, with the key of an operator.
func (s *Store) RemoveTenant(ctx context.Context, tenant mds.Tenant) error {
	if s.readOnly {
		return errReadOnly
	}
	if err := named(tenant); err != nil {
		return err
	}
	return s.DropTenant(ctx, tenant)
}

// Refresh is refused.
func (s *Store) Refresh(context.Context, mds.Tenant, int64) (mds.Refreshed, error) {
	return mds.Refreshed{}, &ElsewhereError{"rollups are made"}
}

// APIKeys is refused.
func (s *Store) APIKeys(context.Context) ([]mds.APIKey, error) {
	return nil, &ElsewhereError{"API keys are read"}
}

// KeptAnswer is refused.
func (s *Store) KeptAnswer(context.Context, mds.Tenant, string) (mds.KeptAnswer, bool, error) {
	return mds.KeptAnswer{}, false, &ElsewhereError{"answers are kept"}
}

// KeepAnswer is refused.
func (s *Store) KeepAnswer(context.Context, mds.Tenant, mds.KeptAnswer) (mds.KeptAnswer, error) {
	return mds.KeptAnswer{}, &ElsewhereError{"answers are kept"}
}

// Table reads and writes one kind of record. It is safe for concurrent use.
type Table[R mds.Record[R]] struct {
	*client.Table[R]
	readOnly bool
}

// NewTable returns the table of kind R.
func NewTable[R mds.Record[R]](s *Store) *Table[R] {
	return &Table[R]{client.TableOf[R](s.Client), s.readOnly}
}

// may refuses to write.
func (t *Table[R]) may(tenant mds.Tenant) error {
	if t.readOnly {
		return errReadOnly
	}
	return named(tenant)
}

// WriteBatch upserts records; see [client.Table.WriteBatch].
func (t *Table[R]) WriteBatch(ctx context.Context, tenant mds.Tenant, records []R) (mds.Receipt, error) {
	if err := t.may(tenant); err != nil {
		return mds.Receipt{}, err
	}
	return t.Table.WriteBatch(ctx, tenant, records)
}

// WriteLate upserts records that come late; see [client.Table.WriteLate].
func (t *Table[R]) WriteLate(ctx context.Context, tenant mds.Tenant, records []R, as time.Time) (mds.Receipt, error) {
	if err := t.may(tenant); err != nil {
		return mds.Receipt{}, err
	}
	return t.Table.WriteLate(ctx, tenant, records, as)
}

// Delete removes records and returns their number; see [client.Table.Delete].
func (t *Table[R]) Delete(ctx context.Context, tenant mds.Tenant, sel mds.Selection) (int64, error) {
	if err := t.may(tenant); err != nil {
		return 0, err
	}
	return t.Table.Delete(ctx, tenant, sel)
}
