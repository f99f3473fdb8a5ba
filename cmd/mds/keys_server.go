package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/internal/apikey"
	"github.com/marketdatastore/mds/store/remote"
)

// timeText writes a time for a server; "" is the zero one.
func timeText(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339Nano)
}

// made is a key that a server has made, with its token.
func made(m *client.MadeKey) (apikey.Token, mds.APIKey, error) {
	token, err := apikey.Parse(m.Token)
	if err != nil {
		return token, mds.APIKey{}, fmt.Errorf("the server has made the key %s, but told no token: revoke it with mds keys revoke %[1]s", m.Key.ID)
	}
	return token, m.Key.Key(), nil
}

// warnOfKey tells what the server says one should know.
func (a *app) warnOfKey(key *client.APIKey) {
	if key.Warning != "" {
		fmt.Fprintf(a.stderr, "warning: %s\n", key.Warning)
	}
}

// makeKeyThere has a server make a key.
func (a *app) makeKeyThere(cmd *cobra.Command, key *mds.APIKey) error {
	return a.throughServer(cmd, func(ctx context.Context, s *remote.Store, tenant mds.Tenant) error {
		answer, err := s.MakeKey(ctx, tenant, client.KeyRequest{Name: key.Name, Scopes: words(key.Scopes), Expires: timeText(key.Expires)})
		if err != nil {
			return err
		}
		token, key, err := made(&answer)
		if err != nil {
			return err
		}
		a.warnOfKey(&answer.Key)
		return a.tellMade(token, &key)
	})
}

// rotateKeyThere has a server put a key in the place of one, which works until a time.
func (a *app) rotateKeyThere(cmd *cobra.Command, id string, next *mds.APIKey, until time.Time) error {
	return a.throughServer(cmd, func(ctx context.Context, s *remote.Store, tenant mds.Tenant) error {
		answer, err := s.RotateKey(ctx, tenant, id, client.RotateRequest{Until: timeText(until), Expires: timeText(next.Expires)})
		if err != nil {
			return err
		}
		token, key, err := made(&answer)
		if err != nil {
			return err
		}
		before := mds.APIKey{ID: id}
		if answer.Before != nil {
			before = answer.Before.Key()
		}
		return a.tellRotated(token, &before, &key)
	})
}

// revokeKeyThere has a server revoke a key.
func (a *app) revokeKeyThere(cmd *cobra.Command, id string) error {
	return a.throughServer(cmd, func(ctx context.Context, s *remote.Store, tenant mds.Tenant) error {
		before, err := s.Keys(ctx, tenant)
		if err != nil {
			return err
		}
		answer, err := s.RevokeKey(ctx, tenant, id)
		if err != nil {
			return err
		}
		was := false
		for i := range before {
			was = was || before[i].ID == id && before[i].State == mds.KeyRevoked
		}
		key := answer.Key()
		a.warnOfKey(&answer)
		a.tellRevoked(&key, was)
		return nil
	})
}

// listKeysThere lists the keys that a server has of a tenant.
func (a *app) listKeysThere(cmd *cobra.Command, all, asJSON bool) error {
	if all {
		return usagef("--all-tenants: a server tells those of one tenant, that of the API key; where the store is, mds keys list tells all")
	}
	return a.throughServer(cmd, func(ctx context.Context, s *remote.Store, tenant mds.Tenant) error {
		list, err := s.Keys(ctx, tenant)
		if err != nil {
			return err
		}
		keys := make([]mds.APIKey, len(list))
		for i := range list {
			keys[i] = list[i].Key()
		}
		return a.listKeys(keys, tenant, asJSON)
	})
}
