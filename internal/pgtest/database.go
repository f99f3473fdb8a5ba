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

// Database is one of the cluster, of a test's own.
type Database struct {
	// Admin is the DSN of a superuser, Owner that of its owner, who is none, Service that
	// of a login without any rights of its own.
	Admin, Owner, Service string
}

// The logins of databases.
const (
	owner   = "mds"
	service = "service"
)

var (
	roles     sync.Once
	templates sync.Map // *template by name
	databases atomic.Int64
)

// Empty makes a database with nothing in it.
func Empty(t testing.TB) Database {
	t.Helper()
	return database(t, "template1")
}

type template struct {
	once sync.Once
	name string
}

// Fresh makes a database like those that prepare has prepared once in the process.
func Fresh(t testing.TB, name string, prepare func(Database) error) Database {
	t.Helper()
	like, _ := templates.LoadOrStore(name, &template{})
	first := like.(*template)
	first.once.Do(func() {
		d := database(t, "template1")
		if err := prepare(d); err != nil {
			t.Fatal(err)
		}
		_, first.name, _ = strings.Cut(strings.TrimSuffix(d.Owner, "?sslmode=disable"), "@")
		_, first.name, _ = strings.Cut(first.name, "/")
	})
	if first.name == "" {
		t.Fatal("the first test could not prepare a database")
	}
	return database(t, first.name)
}

func database(t testing.TB, like string) Database {
	t.Helper()
	c := Start(t)
	roles.Do(func() {
		Exec(t, c.DSN(superuser, "postgres"), "CREATE ROLE "+owner+" LOGIN", "CREATE ROLE "+service+" LOGIN")
	})
	name := fmt.Sprintf("test_%d_%d", os.Getpid(), databases.Add(1))
	Exec(t, c.DSN(superuser, "postgres"), fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s OWNER %s", name, like, owner))
	return Database{Admin: c.DSN(superuser, name), Owner: c.DSN(owner, name), Service: c.DSN(service, name)}
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
