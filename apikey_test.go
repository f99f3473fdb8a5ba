package mds_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

func TestParseScopes(t *testing.T) {
	for _, c := range []struct {
		names []string
		want  []mds.Scope
		err   string
	}{
		{names: []string{"read"}, want: []mds.Scope{"read"}},
		{names: []string{"metrics", "admin", " write", "read", "write"}, want: []mds.Scope{"read", "write", "admin", "metrics"}},
		{names: nil, err: "no scope is named: use read, write, admin or metrics"},
		{names: []string{"read", "rea"}, err: `"rea" is no scope: use read, write, admin or metrics`},
		{names: []string{"Read"}, err: `"Read" is no scope: use read, write, admin or metrics`},
		{names: []string{""}, err: `"" is no scope: use read, write, admin or metrics`},
	} {
		got, err := mds.ParseScopes(c.names)
		if !slices.Equal(got, c.want) || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%q: %v, %v", c.names, got, err)
		}
	}
}

func TestKeyState(t *testing.T) {
	at := func(hour int) time.Time { return time.Date(2026, 1, 2, hour, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		expires, revoked time.Time
		want             mds.KeyState
	}{
		{want: mds.KeyActive},
		{expires: at(11), want: mds.KeyActive},
		{expires: at(10), want: mds.KeyExpired},
		{expires: at(9), want: mds.KeyExpired},
		{revoked: at(11), want: mds.KeyRevoked}, // by a clock that is ahead
		{expires: at(9), revoked: at(8), want: mds.KeyRevoked},
	} {
		key := mds.APIKey{Expires: c.expires, Revoked: c.revoked}
		if got := key.State(at(10)); got != c.want {
			t.Errorf("expires %v, revoked %v: %s, want %s", c.expires, c.revoked, got, c.want)
		}
	}
}

func TestValidateKey(t *testing.T) {
	born := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		name   string
		change func(*mds.APIKey)
		want   string // "" where it is valid
	}{
		{"as it is", func(*mds.APIKey) {}, ""},
		{"expires at once", func(k *mds.APIKey) { k.Expires = born }, ""},
		{"the longest name", func(k *mds.APIKey) { k.Name = strings.Repeat("x", 100) }, ""},
		{"a longer name", func(k *mds.APIKey) { k.Name = strings.Repeat("x", 101) }, "name: is longer than 100 bytes"},
		{"a name that is no text", func(k *mds.APIKey) { k.Name = "\xff" }, `name: "\xff" is not valid UTF-8`},
		{"two lines", func(k *mds.APIKey) { k.Name = "a\nb" }, `name: "a\nb" is not one line without spaces around it`},
		{"an id with an l", func(k *mds.APIKey) { k.ID = "l23456789abc" }, "id: "},
		{"a long id", func(k *mds.APIKey) { k.ID += "0" }, "id: "},
		{"scopes out of order", func(k *mds.APIKey) { k.Scopes = []mds.Scope{"write", "read"} }, "scopes: are not"},
		{"a scope twice", func(k *mds.APIKey) { k.Scopes = []mds.Scope{"read", "read"} }, "scopes: are not"},
		{"expires in a year of five digits", func(k *mds.APIKey) { k.Expires = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "expires: year 10000"},
	} {
		key := mds.APIKey{ID: "0123456789ab", Tenant: mds.DefaultTenant(), Name: "a name", Scopes: mds.Scopes(), Created: born, SecretSHA256: [32]byte{1}}
		c.change(&key)
		err := key.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
