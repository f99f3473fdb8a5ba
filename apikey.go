package mds

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Scope is something that an API key allows for its tenant. None contains another, but for
// what [ScopeMetrics] says: a key that may write does not read unless it has that scope, too.
type Scope string

// The scopes.
const (
	ScopeRead  Scope = "read"  // queries
	ScopeWrite Scope = "write" // records in, and deletions
	ScopeAdmin Scope = "admin" // what looks after the store
	// ScopeMetrics is for reading the metrics of a server, which tell no tenants apart. An
	// admin may, too.
	ScopeMetrics Scope = "metrics"
)

// Scopes lists the scopes, in the order in which they are written.
func Scopes() []Scope { return []Scope{ScopeRead, ScopeWrite, ScopeAdmin, ScopeMetrics} }

// ParseScopes reads the names of scopes: at least one, in any order. They are returned in
// the order of [Scopes], each once.
func ParseScopes(names []string) ([]Scope, error) {
	var scopes []Scope
	for _, name := range names {
		scope := Scope(strings.TrimSpace(name))
		if !slices.Contains(Scopes(), scope) {
			return nil, fmt.Errorf("%s is no scope: use read, write, admin or metrics", quoted(name))
		}
		scopes = append(scopes, scope)
	}
	if len(scopes) == 0 {
		return nil, errors.New("no scope is named: use read, write, admin or metrics")
	}
	return inOrder(scopes), nil
}

func inOrder(scopes []Scope) []Scope {
	order := Scopes()
	scopes = slices.SortedFunc(slices.Values(scopes), func(a, b Scope) int {
		return cmp.Compare(slices.Index(order, a), slices.Index(order, b))
	})
	return slices.Compact(scopes)
}

// APIKey is what a store keeps of an API key: everything but its secret. Times are UTC, to
// the microsecond.
type APIKey struct {
	// ID names the key, and stands in its token. It is no secret: [KeyIDLength] characters
	// of [KeyIDAlphabet].
	ID     string
	Tenant Tenant
	// Name tells people what the key is for: one line of at most [MaxKeyName] bytes, or "".
	Name string
	// Scopes are what it allows: at least one, in the order of [Scopes].
	Scopes  []Scope
	Created time.Time
	// Expires is when it stops working. Zero is never.
	Expires time.Time
	// Revoked is when it was revoked. Zero is not.
	Revoked time.Time

	// SecretSHA256 is the SHA-256 of the secret, which is 32 random bytes. A fast hash
	// without salt is right for it: there is nothing to guess, so that there is nothing that
	// a slow one would slow down (NIST SP 800-63B, section 5.1.2.2: secrets of at least 112
	// bits of entropy are hashed with an approved one-way function, only lesser ones are
	// salted and go through a key derivation function).
	SecretSHA256 [sha256.Size]byte `json:"-"`
}

// What an id is made of: Crockford's base 32, in lower case, so that none of i, l, o and u
// is mistaken for another character when it is read aloud.
const (
	KeyIDLength   = 12
	KeyIDAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"
)

// MaxKeyName is the most bytes of a key's name.
const MaxKeyName = 100

// ValidKeyID reports whether a text has the form of a key's id.
func ValidKeyID(id string) bool {
	return len(id) == KeyIDLength && strings.Trim(id, KeyIDAlphabet) == ""
}

// Validate reports every fault, as an [*InvalidError].
func (k *APIKey) Validate() error {
	var f faults
	if !ValidKeyID(k.ID) {
		f.add("id", fmt.Sprintf("%s is not %d characters of %s", quoted(k.ID), KeyIDLength, KeyIDAlphabet))
	}
	if want, err := NewTenant(k.Tenant.Slug); err != nil || want != k.Tenant {
		f.add("tenant", fmt.Sprintf("%s with the id %s is none", quoted(k.Tenant.Slug), quoted(k.Tenant.ID)))
	}
	f.add("name", textFault(k.Name, MaxKeyName))
	if strings.ContainsFunc(k.Name, unicode.IsControl) || strings.TrimSpace(k.Name) != k.Name {
		f.add("name", quoted(k.Name)+" is not one line without spaces around it")
	}
	for _, s := range k.Scopes {
		if !slices.Contains(Scopes(), s) {
			f.add("scopes", quoted(string(s))+" is none")
		}
	}
	if len(k.Scopes) == 0 || !slices.Equal(k.Scopes, inOrder(k.Scopes)) {
		f.add("scopes", "are not at least one, each once, in the order of read, write, admin, metrics")
	}
	f.add("created", timeFault(k.Created))
	if !k.Expires.IsZero() {
		f.add("expires", timeFault(k.Expires))
		if k.Expires.Before(k.Created) {
			f.add("expires", "is before it was made")
		}
	}
	if !k.Revoked.IsZero() {
		f.add("revoked", timeFault(k.Revoked))
	}
	if k.SecretSHA256 == ([sha256.Size]byte{}) {
		f.add("secret_sha256", "is missing")
	}
	return f.err()
}

// KeyState says whether a key works.
type KeyState string

// The states of a key.
const (
	KeyActive  KeyState = "active"
	KeyExpired KeyState = "expired"
	KeyRevoked KeyState = "revoked"
)

// State is that of the key at a time. One that was revoked is so at any.
func (k *APIKey) State(now time.Time) KeyState {
	switch {
	case !k.Revoked.IsZero():
		return KeyRevoked
	case !k.Expires.IsZero() && !now.Before(k.Expires):
		return KeyExpired
	}
	return KeyActive
}

// Rotate has a new key take the place of this one: next gets its tenant, name and scopes,
// and ends when this one was to end unless it says when itself. This one works until a
// time, or its own end where that is before it. The error wraps [ErrKeyEnded] where it does
// not work any more when next is made.
func (k *APIKey) Rotate(next *APIKey, until time.Time) error {
	switch k.State(next.Created) {
	case KeyRevoked:
		return fmt.Errorf("%w: %s was revoked at %s; make a new one", ErrKeyEnded, k.ID, k.Revoked.UTC().Format(time.RFC3339))
	case KeyExpired:
		return fmt.Errorf("%w: %s expired at %s; make a new one", ErrKeyEnded, k.ID, k.Expires.UTC().Format(time.RFC3339))
	}
	next.Tenant, next.Name, next.Scopes = k.Tenant, k.Name, slices.Clone(k.Scopes)
	if next.Expires.IsZero() {
		next.Expires = k.Expires
	}
	if k.Expires.IsZero() || until.Before(k.Expires) {
		k.Expires = until
	}
	return nil
}
