package pgtest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Database is one of a cluster, of a test's own.
type Database struct {
	// Admin is the DSN of a superuser, Owner that of its owner, who is none, Service that
	// of a login without any rights of its own.
	Admin, Owner, Service string

	Name    string
	Cluster *Cluster
}

// The logins of databases.
const (
	owner   = "mds"
	service = "service"
)

var (
	templates sync.Map // *template by name
	databases atomic.Int64
)

type template struct {
	mu   sync.Mutex
	name string
}

// Empty makes a database with nothing in it, in the process's cluster.
func Empty(t testing.TB) Database {
	t.Helper()
	return Start(t).database(t, "template1")
}

// Fresh makes a database of the process's cluster like those that prepare has prepared
// once in the process.
func Fresh(t testing.TB, name string, prepare func(Database) error) Database {
	t.Helper()
	c := Start(t)
	like, _ := templates.LoadOrStore(name, &template{})
	first := like.(*template)
	first.mu.Lock()
	defer first.mu.Unlock()
	if first.name == "" {
		first.name = c.Database(t, prepare).Name
	}
	return c.database(t, first.name)
}

// Database makes a database that prepare prepares.
func (c *Cluster) Database(t testing.TB, prepare func(Database) error) Database {
	t.Helper()
	d := c.database(t, "template1")
	if err := prepare(d); err != nil {
		t.Fatal(err)
	}
	return d
}

func (c *Cluster) database(t testing.TB, like string) Database {
	t.Helper()
	c.Login(t, owner)
	c.Login(t, service)
	name := fmt.Sprintf("test_%d_%d", os.Getpid(), databases.Add(1))
	Exec(t, c.DSN(superuser, "postgres"), fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s OWNER %s", name, like, owner))
	return Database{Admin: c.DSN(superuser, name), Owner: c.DSN(owner, name), Service: c.DSN(service, name), Name: name, Cluster: c}
}

// Login makes a login with the cluster's password, where there is none of the name.
func (c *Cluster) Login(t testing.TB, name string) {
	t.Helper()
	Exec(t, c.DSN(superuser, "postgres"), fmt.Sprintf(`DO $$ BEGIN
		PERFORM pg_advisory_xact_lock(1);
		IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '%s') THEN CREATE ROLE %[1]s LOGIN PASSWORD '%s'; END IF;
	END $$`, name, c.password))
}

// As is the DSN of another login, which is made where there is none.
func (d Database) As(t testing.TB, login string) string {
	t.Helper()
	if d.Cluster == nil { // it is in WebAssembly
		Exec(t, d.Admin, "CREATE ROLE "+login+" LOGIN")
		return strings.Replace(d.Owner, "//"+owner+":", "//"+login+":", 1)
	}
	d.Cluster.Login(t, login)
	return d.Cluster.DSN(login, d.Name)
}

// Through is a DSN that goes another way, such as that of a proxy.
func (d Database) Through(dsn, addr string) string {
	return strings.Replace(dsn, d.Cluster.Addr(), addr, 1)
}

// Exec runs statements.
func Exec(t testing.TB, dsn string, statements ...string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, text := range statements {
		if _, err := conn.Exec(ctx, text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

// Ask returns what a statement yields, as text: fields apart by spaces, rows by lines.
func Ask(t testing.TB, dsn, text string) string {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		values, err := row.Values()
		return strings.TrimSpace(fmt.Sprintln(values...)), err
	})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return strings.Join(lines, "\n")
}
