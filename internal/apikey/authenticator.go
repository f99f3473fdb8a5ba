package apikey

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
)

// What [Authenticator.Authenticate] refuses a token for, beside [ErrMalformed]. That a key
// has expired or was revoked is told to who has its secret only.
var (
	ErrUnknown = errors.New("unknown API key")
	ErrExpired = errors.New("expired API key")
	ErrRevoked = errors.New("revoked API key")
)

// UnavailableError reports that a token cannot be checked, because the keys of the store
// cannot be read.
type UnavailableError struct{ Err error }

func (e *UnavailableError) Error() string { return "the API keys cannot be read: " + e.Err.Error() }

func (e *UnavailableError) Unwrap() error { return e.Err }

// Retryable is true: the store may come back.
func (e *UnavailableError) Retryable() bool { return true }

// Unavailable is true.
func (e *UnavailableError) Unavailable() bool { return true }

// Source reads all keys of a store. It must heed its context.
type Source interface {
	APIKeys(ctx context.Context) ([]mds.APIKey, error)
}

// Config configures an [Authenticator]. The zero value is usable.
type Config struct {
	// Refresh is for how long the keys that were read are taken for the store's. A
	// revocation acts within that, and the time that a read takes; a key that was just made
	// may be unknown for as long. Whatever is presented, the store is read once in it at
	// most. Defaults to 1 second.
	Refresh time.Duration

	// Outage is for how long after they were read keys still work while the store cannot be
	// reached. Less than zero is not at all. Defaults to 1 minute.
	Outage time.Duration

	// Timeout bounds one read of the store, and the wait for it. Defaults to 3 seconds.
	Timeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.Refresh == 0 {
		c.Refresh = time.Second
	}
	if c.Outage == 0 {
		c.Outage = time.Minute
	}
	if c.Timeout == 0 {
		c.Timeout = 3 * time.Second
	}
	return c
}

// Authenticator checks tokens against the keys of a store. It reads them all at once, when
// a token is presented and what it has is too old: so what is presented takes no memory,
// and costs the same whether there is such a key or not. It is safe for concurrent use.
type Authenticator struct {
	source Source
	cfg    Config

	mu      sync.Mutex
	held    keys
	looked  time.Time     // when the last read began that succeeded, or ended that failed
	reading chan struct{} // closed when the read under way ends; nil where there is none
	changes int           // that are known of
	read    int           // how many of them were known when the last read began
}

// keys are those of a store at a time.
type keys struct {
	byID    map[string]*mds.APIKey
	at      time.Time // when they were asked for
	changes int       // that were known then
	failure error     // of the last read, after these
}

// NewAuthenticator returns one that reads a source.
func NewAuthenticator(source Source, cfg Config) *Authenticator {
	return &Authenticator{source: source, cfg: cfg.withDefaults()}
}

// Changed says that keys of the store were made or ended: a token that is presented from now
// on is checked against keys that are read from now on. Where they cannot be, it is not checked
// against older ones, either: one that was just revoked may be among them.
func (a *Authenticator) Changed() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changes++
}

// Identity is who has presented a token.
type Identity struct {
	// KeyID is the public part of it, for logs.
	KeyID  string
	Tenant mds.Tenant
	// Scopes are what the key allows. They must not be changed.
	Scopes []mds.Scope
}

// May reports whether the key allows something.
func (i Identity) May(scope mds.Scope) bool { return Allow(i.Scopes, scope) }

// Allow reports whether scopes contain one, which of metrics those of an admin do.
func Allow(scopes []mds.Scope, scope mds.Scope) bool {
	return slices.Contains(scopes, scope) || scope == mds.ScopeMetrics && slices.Contains(scopes, mds.ScopeAdmin)
}

// Authenticate returns whose token it is at a time. It fails with [ErrMalformed],
// [ErrUnknown], [ErrExpired] or [ErrRevoked], with an [*UnavailableError] where the store
// cannot tell, or as its context does. No error has the secret in it.
func (a *Authenticator) Authenticate(ctx context.Context, token string, now time.Time) (Identity, error) {
	t, err := Parse(token)
	if err != nil {
		return Identity{}, err
	}
	held, err := a.current(ctx)
	if err != nil {
		return Identity{}, err
	}
	key, known := held.byID[t.ID()]
	if !known {
		key = &mds.APIKey{} // the comparison takes as long
	}
	same := t.Verify(key.SecretSHA256)
	switch {
	case known && same:
	case !known && held.failure != nil: // it may have been made since
		return Identity{}, &UnavailableError{held.failure}
	default:
		return Identity{}, fmt.Errorf("%w: %s", ErrUnknown, t.ID())
	}
	switch key.State(now) {
	case mds.KeyRevoked:
		return Identity{}, fmt.Errorf("%w: %s, at %s", ErrRevoked, key.ID, key.Revoked.UTC().Format(time.RFC3339))
	case mds.KeyExpired:
		return Identity{}, fmt.Errorf("%w: %s, at %s", ErrExpired, key.ID, key.Expires.UTC().Format(time.RFC3339))
	}
	return Identity{KeyID: key.ID, Tenant: key.Tenant, Scopes: key.Scopes}, nil
}

// current are the keys to go by now. Those who come while they are read wait for that read.
func (a *Authenticator) current(ctx context.Context) (keys, error) {
	a.mu.Lock()
	old := a.looked.IsZero() || time.Since(a.looked) >= a.cfg.Refresh
	for ; old || a.read < a.changes; old = false { // what is being read may be from before a change
		if a.reading == nil {
			a.reading = make(chan struct{})
			go a.reread(context.WithoutCancel(ctx), a.changes, a.reading) // it is everybody's
		}
		reading := a.reading
		a.mu.Unlock()
		select {
		case <-reading:
		case <-ctx.Done():
			return keys{}, ctx.Err()
		}
		a.mu.Lock()
	}
	held, changes := a.held, a.changes
	a.mu.Unlock()
	if held.failure != nil && (held.byID == nil || time.Since(held.at) > a.cfg.Outage || held.changes < changes) {
		return keys{}, &UnavailableError{held.failure}
	}
	return held, nil
}

// reread reads the source once, after so many changes.
func (a *Authenticator) reread(ctx context.Context, changes int, done chan struct{}) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	defer cancel()
	list, err := a.source.APIKeys(ctx)
	byID := make(map[string]*mds.APIKey, len(list))
	for i := range list {
		byID[list[i].ID] = &list[i]
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.held.failure, a.looked = err, time.Now()
	} else {
		a.held, a.looked = keys{byID: byID, at: began, changes: changes}, began
	}
	a.read, a.reading = changes, nil
	close(done)
}
