package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/apikey"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
	"github.com/marketdatastore/mds/store/remote"
)

func (a *app) keysCommand() *cobra.Command {
	var admin string
	cmd := group("keys", "Make, list, rotate and revoke API keys",
		a.keysCreateCommand(&admin), a.keysListCommand(&admin), a.keysRotateCommand(&admin), a.keysRevokeCommand(&admin))
	cmd.Long = `Make, list, rotate and revoke API keys. A key is for one tenant, and allows what its
scopes say: read, write, admin, metrics. None contains another, but that an admin reads the
metrics, too. The store keeps no token, only what one is checked by. With DuckDB these
commands open no database: another process may have it. On PostgreSQL they connect as the
owner of the database (--admin-dsn). With --server they work through a server, on the keys
of the tenant of MDS_API_KEY, which takes the scope admin.`
	a.adminFlag(cmd, &admin)
	return cmd
}

// openKeys opens the keys of the store of the flags. It makes a DuckDB store where there is
// none only if that is asked for.
func (a *app) openKeys(cmd *cobra.Command, admin string, makes bool) (store.Keys, error) {
	if err := noEmptyFlags(cmd); err != nil {
		return nil, err
	}
	if postgres.IsDSN(a.dsn) || a.dsn == "" && admin != "" {
		owner, err := a.ownerDSN(admin)
		if err != nil {
			return nil, err
		}
		return store.OpenKeys(cmd.Context(), owner, store.Config{})
	}
	if cmd.Flags().Changed("admin-dsn") {
		return nil, usagef("--admin-dsn is of a PostgreSQL database, and --dsn names none")
	}
	dsn, err := a.storeDSN()
	if err != nil {
		return nil, err
	}
	if !makes {
		if _, err := store.OpenKeys(cmd.Context(), dsn, store.Config{ReadOnly: true}); err != nil {
			return nil, err
		}
	}
	return store.OpenKeys(cmd.Context(), dsn, store.Config{})
}

// keyID reads an id. What may be a token is not repeated.
func keyID(cmd *cobra.Command, args []string) (string, error) {
	if len(args) != 1 {
		return "", usagef("%s needs the id of one key; mds keys list shows them", cmd.CommandPath())
	}
	id := strings.ToLower(args[0])
	switch {
	case mds.ValidKeyID(id):
		return id, nil
	case len(id) > 2*mds.KeyIDLength:
		return "", usagef("that is no key's id: an id has %d characters, those after mds_ in a token", mds.KeyIDLength)
	}
	return "", usagef("%q is no key's id: one has %d characters, and mds keys list shows them", args[0], mds.KeyIDLength)
}

func oneKey(cmd *cobra.Command, args []string) error {
	_, err := keyID(cmd, args)
	return err
}

// keyEnd reads when a key expires: after a time, or at one. Zero is never.
func keyEnd(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if age, err := mds.ParseAge(text); err == nil {
		if age.IsZero() {
			return time.Time{}, nil
		}
		return age.After(now.UTC()).Truncate(time.Microsecond), nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339Nano} {
		end, err := time.Parse(layout, text)
		switch {
		case err != nil:
		case !end.After(now):
			return end, usagef("--expires %s is over", text)
		default:
			return end.UTC().Truncate(time.Microsecond), nil
		}
	}
	return time.Time{}, usagef("--expires %q: write for how long, such as 90d or 2y, or until when, such as 2027-01-31 (00:00 UTC) or 2027-01-31T09:30:00Z", text)
}

// keyGrace reads for how long a key works beside the one that takes its place.
func keyGrace(text string, now time.Time) (until time.Time, err error) {
	if age, err := mds.ParseAge(text); err == nil && !age.IsZero() {
		return age.After(now.UTC()), nil
	}
	grace, err := time.ParseDuration(text)
	if err != nil || grace < 0 {
		return time.Time{}, usagef("--grace %q: write a duration such as 30m, 24h or 7d, or 0 for none", text)
	}
	return now.UTC().Add(grace).Truncate(time.Microsecond), nil
}

// reveal prints a token, once.
func (a *app) reveal(token apikey.Token) error {
	if _, err := fmt.Fprintln(a.stdout, token.Reveal()); err != nil {
		return fmt.Errorf("the key %s is made, but its token could not be written: %w; revoke it with mds keys revoke %[1]s", token.ID(), err)
	}
	return nil
}

// tellMade prints the token of a key that was made, once.
func (a *app) tellMade(token apikey.Token, key *mds.APIKey) error {
	if err := a.reveal(token); err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "key %s of tenant %s made: %s, %s; its token is shown this once\n", key.ID, key.Tenant.Slug, scopesText(key.Scopes), endText(key))
	return nil
}

// tellRotated prints the token of a key that takes the place of one, once.
func (a *app) tellRotated(token apikey.Token, before, next *mds.APIKey) error {
	if err := a.reveal(token); err != nil {
		return err
	}
	old := "no longer works"
	if before.Expires.After(next.Created) {
		old = "works until " + before.Expires.Format(time.RFC3339)
	}
	fmt.Fprintf(a.stderr, "key %s of tenant %s takes the place of %s, which %s: %s, %s; its token is shown this once\n",
		next.ID, next.Tenant.Slug, before.ID, old, scopesText(next.Scopes), endText(next))
	return nil
}

func (a *app) tellRevoked(key *mds.APIKey, before bool) {
	if before {
		fmt.Fprintf(a.stdout, "key %s of tenant %s was revoked before, at %s\n", key.ID, key.Tenant.Slug, key.Revoked.Format(time.RFC3339))
		return
	}
	fmt.Fprintf(a.stdout, "key %s of tenant %s is revoked\n", key.ID, key.Tenant.Slug)
}

func scopesText(scopes []mds.Scope) string {
	names := make([]string, len(scopes))
	for i, s := range scopes {
		names[i] = string(s)
	}
	return strings.Join(names, ",")
}

// endText says when a key expires.
func endText(key *mds.APIKey) string {
	if key.Expires.IsZero() {
		return "does not expire"
	}
	return "expires at " + key.Expires.Format(time.RFC3339)
}

func (a *app) keysCreateCommand(admin *string) *cobra.Command {
	var scopes []string
	var name, expires string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a key of a tenant and print its token, once",
		Long: `Make a key of a tenant (--tenant) and print its token on standard output, once: it
cannot be shown again. All else is on standard error.`,
		Example: "  mds keys create --tenant acme --scopes read,write --name 'the feed of acme' --expires 90d > acme.key",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(scopes) == 0 {
				return usagef("say what the key may do: --scopes read,write,admin,metrics, or some of them")
			}
			now := time.Now()
			token, key := apikey.New(now)
			var err error
			if key.Scopes, err = mds.ParseScopes(scopes); err != nil {
				return usagef("--scopes: %w", err)
			}
			if key.Expires, err = keyEnd(expires, now); err != nil {
				return err
			}
			key.Name = name
			if remote.IsDSN(a.dsn) {
				return a.makeKeyThere(cmd, &key)
			}
			keys, err := a.openKeys(cmd, *admin, true)
			if err != nil {
				return err
			}
			if key.Tenant, err = keys.Tenant(cmd.Context(), a.tenant); err != nil {
				return err
			}
			if err := key.Validate(); err != nil {
				return usageError{err}
			}
			if err := keys.Create(cmd.Context(), key); err != nil {
				return err
			}
			return a.tellMade(token, &key)
		},
	}
	cmd.Flags().StringSliceVar(&scopes, "scopes", nil, "what it may do, separated by commas: read, write, admin, metrics")
	cmd.Flags().StringVar(&name, "name", "", "what it is for, to tell keys apart")
	cmd.Flags().StringVar(&expires, "expires", "", "for how long it works, such as 90d, or until when, such as 2027-01-31 (default for ever)")
	offer(cmd, "scopes", "read", "write", "admin", "metrics", "read,write", "read,write,admin")
	return cmd
}

func (a *app) keysRotateCommand(admin *string) *cobra.Command {
	var grace, expires string
	cmd := &cobra.Command{
		Use:   "rotate ID",
		Short: "Put a new key in the place of one, and print its token, once",
		Long: `Put a new key in the place of one, with its tenant, scopes and name, and print the new
token on standard output, once. The old one stops working at once, or after --grace. The
new one expires when the old one was to, unless --expires is given.`,
		Example: "  mds keys rotate 7n3kq0vbzx5d --grace 24h > acme.key",
		Args:    oneKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := keyID(cmd, args)
			if err != nil {
				return err
			}
			now := time.Now()
			token, next := apikey.New(now)
			if next.Expires, err = keyEnd(expires, now); err != nil {
				return err
			}
			until, err := keyGrace(grace, next.Created)
			if err != nil {
				return err
			}
			if remote.IsDSN(a.dsn) {
				return a.rotateKeyThere(cmd, id, &next, until)
			}
			keys, err := a.openKeys(cmd, *admin, false)
			if err != nil {
				return err
			}
			before, next, err := keys.Rotate(cmd.Context(), id, next, until)
			if err != nil {
				return err
			}
			return a.tellRotated(token, &before, &next)
		},
	}
	cmd.Flags().StringVar(&grace, "grace", "0", "for how long the old one still works, such as 24h")
	cmd.Flags().StringVar(&expires, "expires", "", "for how long the new one works, such as 90d, or until when, such as 2027-01-31 (default as the old one)")
	return cmd
}

func (a *app) keysRevokeCommand(admin *string) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Have a key no longer work, for good",
		Args:  oneKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := keyID(cmd, args)
			if err != nil {
				return err
			}
			if remote.IsDSN(a.dsn) {
				return a.revokeKeyThere(cmd, id)
			}
			keys, err := a.openKeys(cmd, *admin, false)
			if err != nil {
				return err
			}
			now := time.Now().UTC().Truncate(time.Microsecond)
			key, err := keys.Revoke(cmd.Context(), id, now)
			if err != nil {
				return err
			}
			a.tellRevoked(&key, !key.Revoked.Equal(now))
			return nil
		},
	}
}

// listedKey is a key in JSON.
type listedKey struct {
	ID       string       `json:"id"`
	Tenant   string       `json:"tenant"`
	TenantID string       `json:"tenant_id"`
	Name     string       `json:"name,omitempty"`
	Scopes   []mds.Scope  `json:"scopes"`
	State    mds.KeyState `json:"state"`
	Created  time.Time    `json:"created"`
	Expires  time.Time    `json:"expires,omitzero"`
	Revoked  time.Time    `json:"revoked,omitzero"`
}

func (a *app) keysListCommand(admin *string) *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the keys of a tenant, without their tokens",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if all && cmd.Flags().Changed("tenant") {
				return usagef("--all-tenants takes each tenant, and --tenant names one: give one of them")
			}
			if remote.IsDSN(a.dsn) {
				return a.listKeysThere(cmd, all, asJSON)
			}
			keys, err := a.openKeys(cmd, *admin, false)
			if err != nil {
				return err
			}
			var tenant mds.Tenant
			if !all {
				if tenant, err = keys.Tenant(cmd.Context(), a.tenant); err != nil {
					return err
				}
			}
			list, err := keys.List(cmd.Context())
			if err != nil {
				return err
			}
			return a.listKeys(list, tenant, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	cmd.Flags().BoolVar(&all, "all-tenants", false, "those of each tenant, rather than of --tenant")
	return cmd
}

// listKeys prints the keys of a tenant, of all for the zero one.
func (a *app) listKeys(list []mds.APIKey, tenant mds.Tenant, asJSON bool) error {
	now := time.Now()
	listed := []listedKey{}
	t := &table{header: []string{"id", "tenant", "name", "scopes", "state", "created (UTC)", "expires (UTC)", "revoked (UTC)"}}
	t.right = make([]bool, len(t.header))
	for i := range list {
		k := &list[i]
		if tenant != (mds.Tenant{}) && k.Tenant != tenant {
			continue
		}
		listed = append(listed, listedKey{k.ID, k.Tenant.Slug, k.Tenant.ID, k.Name, k.Scopes, k.State(now), k.Created, k.Expires, k.Revoked})
		t.add(k.ID, k.Tenant.Slug, oneLine(k.Name), scopesText(k.Scopes), string(k.State(now)), instantText(k.Created), instantText(k.Expires), instantText(k.Revoked))
	}
	switch {
	case asJSON:
		return writeJSON(a.stdout, listed)
	case len(listed) == 0 && tenant != (mds.Tenant{}):
		fmt.Fprintf(a.stderr, "tenant %s has no API keys\n", tenant.Slug)
	case len(listed) == 0:
		fmt.Fprintln(a.stderr, "there are no API keys")
	}
	return t.write(a.stdout)
}
