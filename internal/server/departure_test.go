package server_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/dlq"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/apikey"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store"
)

// departing is a server whose queue writes nothing by itself: what is sent to it with
// ack=accepted is queued when its tenant is removed.
func departing(t *testing.T, test func(t *testing.T, c *controlled)) {
	c := &controlled{}
	keyedWith(t, func(t *testing.T, st *store.Store, dsn, owner string) server.Config {
		cfg := controlling(t, st, owner)
		cfg.Keys = apikey.NewAuthenticator(st, apikey.Config{Refresh: time.Hour})
		cfg.Ingest = ingest.Config[any]{FlushInterval: time.Hour}
		c.cfg, c.dsn, c.owner = cfg, dsn, owner
		return cfg
	}, func(t *testing.T, k *keyed) {
		c.keyed = k
		all := []mds.Scope{mds.ScopeRead, mds.ScopeWrite, mds.ScopeAdmin}
		c.op, _ = k.make(t, "default", time.Time{}, all...)
		c.a, _ = k.make(t, "a", time.Time{}, all...)
		test(t, c)
	})
}

// queue has a bar of a tenant be queued.
func (c *controlled) queue(t *testing.T, token string) {
	t.Helper()
	c.ask(t, http.MethodPost, "/v1/bars?ack=accepted", strings.NewReader(bar("SECRET", 0, 7)), append(bearer(token), "Content-Type", "application/x-ndjson")...).into(t, http.StatusAccepted, new(any))
}

// again makes the tenant a once more, and returns the token of its key.
func (c *controlled) again(t *testing.T) string {
	t.Helper()
	var made client.MadeTenant
	c.do(t, c.op, http.MethodPost, "/v1/tenants", `{"tenant":"a","key":{"scopes":["read","write","admin"]}}`).into(t, http.StatusCreated, &made)
	return made.Key.Token
}

// finds fails unless a tenant sees so many bars, and no dead letters.
func (c *controlled) finds(t *testing.T, token string, bars int) {
	t.Helper()
	if got := c.get(t, "/v1/bars?format=csv", bearer(token)...); got.status != http.StatusOK || strings.Count(got.body, "\n")-1 != bars {
		t.Errorf("%d bars are seen: %d %s", bars, got.status, got.body)
	}
	var list client.Letters
	c.get(t, "/v1/dead-letters", bearer(token)...).into(t, http.StatusOK, &list)
	var counts client.LetterSummary
	c.get(t, "/v1/dead-letters/summary", bearer(token)...).into(t, http.StatusOK, &counts)
	if len(list.Letters) > 0 || len(counts.Counts) > 0 {
		t.Errorf("letters are seen: %+v, %+v", list, counts)
	}
}

// TestNextOfTheName gives the name of a removed tenant, and with it the id, to another one: of
// what was queued it gets nothing, neither as records nor as dead letters.
func TestNextOfTheName(t *testing.T) {
	departing(t, func(t *testing.T, c *controlled) {
		a, err := c.store.Tenant(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		c.queue(t, c.a)
		c.do(t, c.op, http.MethodDelete, "/v1/tenants/a?all=true", "").into(t, http.StatusOK, new(any))
		if left := c.buried(t, a); len(left) > 0 {
			t.Errorf("letters are left: %v", left)
		}
		next := c.again(t)
		c.finds(t, next, 0)

		// Removed by another server of the store, which does not know what is queued here.
		c.queue(t, next)
		if err := c.store.RemoveTenant(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		next = c.again(t)
		c.finds(t, next, 0)
		var n client.Removed
		c.do(t, next, http.MethodDelete, "/v1/dead-letters?all=true", "").into(t, http.StatusOK, &n)
		if left := c.buried(t, a); n.Removed != 0 || len(left) != 1 || left[0] != "SECRET" {
			t.Errorf("it has removed %d; left are %v", n.Removed, left)
		}
		// Its own it sees.
		c.bury(t, a, "OWN")
		var list client.Letters
		c.get(t, "/v1/dead-letters", bearer(next)...).into(t, http.StatusOK, &list)
		if len(list.Letters) != 1 || !strings.Contains(string(list.Letters[0].Record), "OWN") {
			t.Errorf("%+v", list)
		}
		c.post(t, "/v1/bars?late=2026-01-01", bar("OWN", 0, 1), bearer(next)...).into(t, http.StatusOK, new(any))
		if got := c.get(t, "/v1/bars?format=csv", bearer(next)...); strings.Count(got.body, "\n") != 2 {
			t.Errorf("stored are %s", got.body)
		}
	})
}

// TestRemovedTwice removes the letters of a tenant that is not there any more: the first removal
// was cut off, or another server's.
func TestRemovedTwice(t *testing.T) {
	departing(t, func(t *testing.T, c *controlled) {
		a, err := c.store.Tenant(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		c.bury(t, a, "LEFT")
		c.queue(t, c.a)
		if err := c.store.RemoveTenant(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		c.do(t, c.op, http.MethodDelete, "/v1/tenants/a", "").problem(t, http.StatusBadRequest, "bad_parameter", "all=true")
		c.do(t, c.op, http.MethodDelete, "/v1/tenants/a?all=true", "").problem(t, http.StatusNotFound, "unknown_tenant", "")
		if left := c.buried(t, a); len(left) > 0 {
			t.Errorf("letters are left: %v", left)
		}
	})
}

// TestBodyOfOneWhoLeft has a body go on that was begun with the key of a tenant that is removed
// meanwhile, and whose name another one has by then.
func TestBodyOfOneWhoLeft(t *testing.T) {
	departing(t, func(t *testing.T, c *controlled) {
		body, rest := io.Pipe()
		answered := make(chan answer, 1)
		go func() {
			answered <- c.ask(t, http.MethodPost, "/v1/bars", body, append(bearer(c.a), "Content-Type", "application/x-ndjson")...)
		}()
		// More than is handed over at a time, so that the server is known to have begun.
		if _, err := rest.Write(bytes.Repeat([]byte(bar("SECRET", 0, 7)), 5000)); err != nil {
			t.Fatal(err)
		}
		c.do(t, c.op, http.MethodDelete, "/v1/tenants/a?all=true", "").into(t, http.StatusOK, new(any))
		next := c.again(t)
		// It may have been refused by now, and read no more.
		_, _ = rest.Write(bytes.Repeat([]byte(bar("SECRET", 0, 7)), 2000))
		_ = rest.Close()
		if got := <-answered; got.status != http.StatusNotFound || !strings.Contains(got.body, "unknown_tenant") {
			t.Errorf("it is answered %d %s", got.status, got.body)
		}
		c.finds(t, next, 0)
	})
}

// TestLettersOfAnotherServer shows the next tenant of a name nothing of what another server of
// the store has kept of the one before.
func TestLettersOfAnotherServer(t *testing.T) {
	departing(t, func(t *testing.T, c *controlled) {
		if !strings.HasPrefix(c.dsn, "postgres") {
			return // one process has the files
		}
		letters, err := dlq.Open(dlq.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer letters.Close()
		st, err := store.Open(t.Context(), c.dsn, store.Config{})
		if err != nil {
			t.Fatal(err)
		}
		other := *c
		other.cfg.Letters = letters
		other.keyed = &keyed{serve(t, c.dsn, server.Config{Letters: letters, Keys: apikey.NewAuthenticator(st, apikey.Config{Refresh: time.Nanosecond})}, st), c.keys}
		a, err := st.Tenant(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		other.bury(t, a, "SECRET")
		c.do(t, c.op, http.MethodDelete, "/v1/tenants/a?all=true", "").into(t, http.StatusOK, new(any))
		other.finds(t, c.again(t), 0)
		if left := other.buried(t, a); len(left) != 1 {
			t.Errorf("left are %v", left)
		}
	})
}
