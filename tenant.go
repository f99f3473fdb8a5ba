package mds

import (
	"crypto/sha1" //nolint:gosec // RFC 9562 version 5 is defined over SHA-1; nothing here is secret
	"encoding/hex"
	"fmt"
	"strings"
)

// Tenant owns records. It travels with every call and is never part of a
// record; one tenant's records are not visible to another.
type Tenant struct {
	// ID is a UUID in its canonical text form.
	ID string
	// Slug is the short name people use: lower-case letters, digits, '-' and
	// '_', starting with a letter or digit, at most 63 bytes, and no UUID.
	Slug string
}

// DefaultTenant is the tenant that every store has. Its ID is fixed.
func DefaultTenant() Tenant {
	return Tenant{ID: "170955cd-45b1-5e79-a214-43560e6e8b6c", Slug: "default"}
}

// NewTenant returns the tenant of a slug. The ID is the version 5 UUID (RFC
// 9562, section 5.5) of a URL that ends in the slug, so that
// the same slug has the same ID in every store. The error wraps
// [ErrTenantName].
func NewTenant(slug string) (Tenant, error) {
	if !validSlug(slug) {
		return Tenant{}, fmt.Errorf("%w %q: use lower-case letters, digits, '-' and '_', at most 63 of them, starting with a letter or digit", ErrTenantName, slug)
	}
	if isUUID(slug) {
		return Tenant{}, fmt.Errorf("%w %q: it is a UUID, which would be taken for a tenant's id", ErrTenantName, slug)
	}
	return Tenant{ID: tenantID(slug), Slug: slug}, nil
}

// FindTenant finds a tenant among others by slug or UUID. The error wraps
// [ErrUnknownTenant].
func FindTenant(tenants []Tenant, slugOrID string) (Tenant, error) {
	for _, t := range tenants {
		if t.Slug == slugOrID || strings.EqualFold(t.ID, slugOrID) {
			return t, nil
		}
	}
	return Tenant{}, fmt.Errorf("%w %q", ErrUnknownTenant, slugOrID)
}

func validSlug(s string) bool {
	if s == "" || len(s) > 63 {
		return false
	}
	for i, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && (c == '-' || c == '_'):
		default:
			return false
		}
	}
	return true
}

// isUUID reports the form 8-4-4-4-12 of hexadecimal digits.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || '9' < c) && (c < 'a' || 'f' < c) {
				return false
			}
		}
	}
	return true
}

func tenantID(slug string) string {
	// The URL namespace of RFC 9562, section 6.6.
	namespace := [16]byte{0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}
	h := sha1.New() //nolint:gosec // see the import
	h.Write(namespace[:])
	h.Write([]byte("https://github.com/marketdatastore/mds/tenant/" + slug))
	u := h.Sum(nil)[:16]
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	x := hex.EncodeToString(u)
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}
