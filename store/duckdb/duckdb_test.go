package duckdb

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/marketdatastore/mds"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(compactFull); dir != "" {
		compactOnFullDisk(dir)
	}
	if dir := os.Getenv(compactKilled); dir != "" {
		compactUntilKilled(dir)
	}
	if dir := os.Getenv(refreshKilled); dir != "" {
		refreshUntilKilled(dir)
	}
	if dir := os.Getenv(keysKilled); dir != "" {
		createKeysUntilKilled(dir)
	}
	if dir := os.Getenv(jobsKilled); dir != "" {
		workUntilKilled(dir)
	}
	if dir := os.Getenv(jobsHeld); dir != "" {
		holdJobs(dir)
	}
	if dir := os.Getenv(fullDisk); dir != "" {
		fillDisk(dir)
	}
	goleak.VerifyTestMain(m)
}

func open(t *testing.T, dir string, cfg Config) *Store {
	t.Helper()
	s, err := Open(context.Background(), dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func bars(n int, close float64) []mds.Bar {
	batch := make([]mds.Bar, n)
	for i := range batch {
		batch[i] = mds.Bar{
			Vendor: "test", Symbol: fmt.Sprint("S", i%7), Timeframe: mds.Minute, Close: close,
			TS: time.Date(2024, 3, 5, 9, i, 0, 0, time.UTC),
		}
	}
	return batch
}

func write(t *testing.T, s *Store, batch []mds.Bar) mds.Receipt {
	t.Helper()
	receipt, err := NewTable[mds.Bar](s).WriteBatch(context.Background(), mds.DefaultTenant(), batch)
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

// raw runs SQL on the file of the default tenant with the store closed.
func raw(t *testing.T, dir string, query string, args ...any) *sql.DB {
	t.Helper()
	db, err := sql.Open("duckdb", filepath.Join(dir, "default.duckdb"))
	if err != nil {
		t.Fatal(err)
	}
	if query != "" {
		if _, err := db.ExecContext(context.Background(), query, args...); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

// TestReplayKeepsUpdatedAt: an equal row is not touched, a changed one is
// stamped anew.
func TestReplayKeepsUpdatedAt(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{})
	batch := bars(100, 1)
	write(t, s, batch)
	stamps := func() map[string]time.Time {
		f, err := s.file(context.Background(), mds.DefaultTenant())
		if err != nil {
			t.Fatal(err)
		}
		rows, err := f.pool.Load().Query("SELECT symbol || ts::VARCHAR, updated_at FROM bars")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		out := make(map[string]time.Time)
		for rows.Next() {
			var key string
			var at time.Time
			if err := rows.Scan(&key, &at); err != nil {
				t.Fatal(err)
			}
			out[key] = at
		}
		return out
	}
	before := stamps()
	if len(before) != 100 {
		t.Fatalf("%d rows", len(before))
	}
	batch[3].Close = 2
	if receipt := write(t, s, batch); receipt != (mds.Receipt{Written: 1, Unchanged: 99, Modes: mds.WroteMerge}) {
		t.Errorf("receipt %+v", receipt)
	}
	changed := 0
	for key, at := range stamps() {
		if !at.Equal(before[key]) {
			changed++
			if !at.After(before[key]) {
				t.Errorf("%s was stamped %s, before that %s", key, at, before[key])
			}
		}
	}
	if changed != 1 {
		t.Errorf("%d rows were stamped anew, want 1", changed)
	}
}

// TestSchemaIsTheMigrations: the columns that statements are derived for are
// those that the migrations make.
func TestSchemaIsTheMigrations(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	f, err := s.file(context.Background(), mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	columns := func(table string) (list []string) {
		rows, err := f.pool.Load().Query("SELECT column_name || ' ' || data_type || ' ' || is_nullable FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", table)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				t.Fatal(err)
			}
			list = append(list, name)
		}
		return list
	}
	checkTables(t, columns, mds.SchemaOf[mds.Bar](), "bar")
	checkTables(t, columns, mds.SchemaOf[mds.OptionSnap](), "option")
	checkTables(t, columns, mds.SchemaOf[mds.Fundamentals](), "fundamental")
	checkTables(t, columns, mds.SchemaOf[mds.News](), "news_item")
}

func checkTables[R any](t *testing.T, columns func(table string) []string, schema mds.Schema[R], noun string) {
	sqlType := func(c *mds.Column[R]) string {
		switch {
		case c.Text != nil:
			return "VARCHAR"
		case c.Time != nil:
			return "TIMESTAMP"
		case c.Date != nil:
			return "DATE"
		case c.Decimal != nil:
			return "DECIMAL(18,9)"
		case c.OptInt != nil:
			return "BIGINT"
		case c.List != nil:
			return "VARCHAR[]"
		case c.Metrics != nil:
			return "MAP(VARCHAR, DOUBLE)"
		}
		return "DOUBLE"
	}
	series := []string{"id BIGINT false"}
	facts := []string{"series_id BIGINT false"}
	var view []string
	for i := range schema.Columns {
		c := &schema.Columns[i]
		view = append(view, c.Name+" "+sqlType(c)+" true")
		null := c.Role == mds.Value && c.Optional() && c.List == nil && c.Metrics == nil
		line := fmt.Sprintf("%s %s %v", c.Name, sqlType(c), null)
		if c.Role == mds.Identity {
			series = append(series, line)
		} else {
			facts = append(facts, line)
		}
	}
	for table, want := range map[string][]string{
		noun + "_series": series,
		noun + "_facts":  append(facts, "updated_at TIMESTAMP false"),
		schema.Kind:      append(view, "updated_at TIMESTAMP true"),
	} {
		if got := columns(table); !slices.Equal(got, want) {
			t.Errorf("%s has %q, the schema says %q", table, got, want)
		}
	}
}

func TestBatchFunctionIsTheWritersAlone(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	write(t, s, bars(10, 1))
	f, err := s.file(context.Background(), mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	var n int
	err = f.pool.Load().QueryRow("SELECT count(*) FROM mds_batch_bars()").Scan(&n)
	if err == nil || !strings.Contains(err.Error(), "yields rows to the writer only") {
		t.Errorf("a reader called the batch function: %d rows, %v", n, err)
	}
}

func TestNewerFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{})
	write(t, s, bars(10, 1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := raw(t, dir, "INSERT INTO mds_migrations VALUES (99, 'later', now()::TIMESTAMP)").Close(); err != nil {
		t.Fatal(err)
	}
	err := open(t, dir, Config{}).Ping(context.Background(), mds.DefaultTenant())
	var version *VersionError
	if !errors.As(err, &version) || version.Version != 99 || version.Understood != SchemaVersion() || !strings.Contains(err.Error(), "schema version 99") {
		t.Errorf("a file of schema version 99: %v", err)
	}
}

func TestReadOnly(t *testing.T) {
	ctx := context.Background()
	absent := filepath.Join(t.TempDir(), "absent")
	if _, err := Open(ctx, absent, Config{ReadOnly: true}); !errors.Is(err, mds.ErrNoStore) || !strings.Contains(err.Error(), absent) || fileExists(absent) {
		t.Errorf("a folder that is not there: %v", err)
	}
	dir := t.TempDir()
	s := open(t, dir, Config{ReadOnly: true})
	if err := s.Ping(ctx, mds.DefaultTenant()); !errors.Is(err, mds.ErrNoStore) || fileExists(filepath.Join(dir, "default.duckdb")) {
		t.Errorf("a file that is not there: %v", err)
	}
	// A file without tables is one that a crash left before its first migration.
	if err := raw(t, dir, "SELECT 1").Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(ctx, mds.DefaultTenant()); err != nil {
		t.Errorf("a file to migrate: %v", err)
	}
	if _, err := NewTable[mds.Bar](s).WriteBatch(ctx, mds.DefaultTenant(), bars(1, 1)); err == nil || !strings.Contains(err.Error(), "opened for reading only") {
		t.Errorf("a write: %v", err)
	}
	if _, err := NewTable[mds.Bar](s).Delete(ctx, mds.DefaultTenant(), mds.Selection{}); err == nil {
		t.Error("a delete was taken")
	}
	if _, err := s.CreateTenant(ctx, "acme"); err == nil {
		t.Error("a tenant was made")
	}
}

// TestOlderSchemaIsRead: reading a file of version 1 leaves it as it is, and
// several may do so at once; writing migrates it.
func TestOlderSchemaIsRead(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir, Config{})
	write(t, s, bars(10, 1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	err := raw(t, dir, `
		DROP VIEW options; DROP TABLE option_facts; DROP TABLE option_series;
		DROP VIEW fundamentals; DROP TABLE fundamental_facts; DROP TABLE fundamental_series;
		DROP VIEW news; DROP TABLE news_item_facts; DROP TABLE news_item_series;
		DROP VIEW rollups; DROP TABLE bar_rollup_facts; DROP TABLE bar_rollup_series;
		DROP TABLE policies; DROP TABLE touched; DROP SEQUENCE touched_id; DROP TABLE audit;
		DROP TABLE kept_answers;
		DELETE FROM mds_migrations WHERE version > 1`).Close()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "default.duckdb")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	reader := open(t, dir, Config{ReadOnly: true})
	if n, err := NewTable[mds.Bar](reader).Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || n != 10 {
		t.Errorf("%d bars, %v", n, err)
	}
	news := NewTable[mds.News](reader)
	if n, err := news.Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || n != 0 {
		t.Errorf("%d news, %v", n, err)
	}
	if info, err := news.Info(ctx, mds.DefaultTenant()); err != nil || info != (mds.KindInfo{Kind: "news"}) {
		t.Errorf("info %+v, %v", info, err)
	}
	for _, err := range news.Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		t.Errorf("query: %v", err)
	}
	if list, err := reader.Policies(ctx, mds.DefaultTenant()); err != nil || len(list) != 0 {
		t.Errorf("policies %v, %v", list, err)
	}
	for _, err := range reader.Resample(ctx, mds.DefaultTenant(), mds.ResampleQuery{Every: mds.Hour}) {
		if err != nil {
			t.Errorf("resample: %v", err)
		}
	}
	if _, found, err := reader.KeptAnswer(ctx, mds.DefaultTenant(), "key"); err != nil || found {
		t.Errorf("a kept answer: %v, %v", found, err)
	}
	if _, err := OpenKeeper(reader).Changes(ctx, mds.DefaultPolicies()); err == nil || !strings.Contains(err.Error(), "has schema version 1, which has no policies") {
		t.Errorf("changes of policies: %v", err)
	}
	if version, err := reader.SchemaVersion(ctx, mds.DefaultTenant()); err != nil || version != 1 {
		t.Errorf("schema version %d, %v", version, err)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("reading changed the file: %v", err)
	}
	writer := open(t, dir, Config{})
	if n, err := NewTable[mds.News](writer).Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || n != 0 {
		t.Errorf("%d news, %v", n, err)
	}
	if version, err := writer.SchemaVersion(ctx, mds.DefaultTenant()); err != nil || version != SchemaVersion() {
		t.Errorf("schema version %d, %v", version, err)
	}
	if n, err := NewTable[mds.Bar](writer).Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || n != 10 {
		t.Errorf("%d bars after the migration, %v", n, err)
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "default.duckdb")
	ping := func() error {
		s, err := Open(context.Background(), dir, Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		return s.Ping(context.Background(), mds.DefaultTenant())
	}
	if err := raw(t, dir, "CREATE TABLE theirs (x INTEGER)").Close(); err != nil {
		t.Fatal(err)
	}
	if err := ping(); err == nil || !strings.Contains(err.Error(), "database of another program") {
		t.Errorf("another program's database: %v", err)
	}
	if err := os.WriteFile(path, []byte("not a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ping(); err == nil || !strings.Contains(err.Error(), path+" is not a DuckDB database") {
		t.Errorf("a file that is no database: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "not a database" {
		t.Errorf("the file was changed: %q, %v", text, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}

	acme, err := mds.NewTenant("acme")
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, Config{})
	if _, err := s.CreateTenant(context.Background(), "acme"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.path(acme), path); err != nil {
		t.Fatal(err)
	}
	if err := ping(); err == nil || !strings.Contains(err.Error(), "holds the data of tenant acme") {
		t.Errorf("a renamed file: %v", err)
	}
}

func TestOneStoreAFileInAProcess(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir, Config{})
	write(t, first, bars(10, 1))
	second := open(t, dir, Config{})
	if err := second.Ping(context.Background(), mds.DefaultTenant()); err == nil || !strings.Contains(err.Error(), "open in this process already") {
		t.Errorf("a second store on the file: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.Ping(context.Background(), mds.DefaultTenant()); err != nil {
		t.Errorf("after the first is closed: %v", err)
	}
}

// TestAFailedWriteForgetsItsSeries: the series that a write was about to store
// are not taken for stored when it fails.
func TestAFailedWriteForgetsItsSeries(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{})
	if err := s.Ping(ctx, mds.DefaultTenant()); err != nil {
		t.Fatal(err)
	}
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	rename := func(from, to string) {
		if _, err := f.pool.Load().Exec("ALTER TABLE " + from + " RENAME TO " + to); err != nil {
			t.Fatal(err)
		}
	}
	table := NewTable[mds.Bar](s)
	rename("bar_facts", "away")
	if _, err := table.WriteBatch(ctx, mds.DefaultTenant(), bars(20, 1)); err == nil {
		t.Fatal("a write without a table")
	}
	rename("away", "bar_facts")
	if receipt := write(t, s, bars(20, 1)); receipt.Written != 20 {
		t.Errorf("receipt %+v", receipt)
	}
	n := 0
	for _, err := range table.Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 20 {
		t.Errorf("%d bars are read back", n)
	}
}

// TestOpenAgainWhileRead: the file is this process's until the last query has
// ended, and an opening before that is refused rather than left waiting.
func TestOpenAgainWhileRead(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir, Config{})
	write(t, s, bars(5000, 1))
	again := open(t, dir, Config{})
	first := true
	for _, err := range NewTable[mds.Bar](s).Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if first {
			first = false
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := again.Ping(ctx, mds.DefaultTenant()); err == nil || !strings.Contains(err.Error(), "open in this process already") {
				t.Errorf("opened while it is read: %v", err)
			}
		}
	}
	if err := again.Ping(ctx, mds.DefaultTenant()); err != nil {
		t.Errorf("after the query: %v", err)
	}
}

func TestLinkedFolderIsTheSame(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	write(t, open(t, dir, Config{}), bars(10, 1))
	if err := open(t, link, Config{}).Ping(context.Background(), mds.DefaultTenant()); err == nil || !strings.Contains(err.Error(), "open in this process already") {
		t.Errorf("the same file through a link: %v", err)
	}
}

func TestFolderNames(t *testing.T) {
	for _, name := range []string{"d[1]", "d[x", "a*b", "a b", "é"} {
		s := open(t, filepath.Join(t.TempDir(), name), Config{})
		if _, err := s.CreateTenant(context.Background(), "acme"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Tenant(context.Background(), "acme"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNewFilesReplaceNone: of two stores that make a tenant's file at once one
// wins, and nothing is left of the other's.
func TestNewFilesReplaceNone(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir, Config{})
	write(t, s, bars(10, 1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// What another process would do that saw no file a moment ago.
	if err := createFile(ctx, filepath.Join(dir, "default.duckdb"), mds.DefaultTenant(), Config{}.withDefaults()); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Config{})
	if receipt := write(t, s, bars(10, 1)); receipt.Unchanged != 10 {
		t.Errorf("the file was replaced: %+v", receipt)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.Contains(entry.Name(), ".new-") {
			t.Errorf("%s is left", entry.Name())
		}
	}
}

func TestMemoryLimitIsSet(t *testing.T) {
	s := open(t, t.TempDir(), Config{MemoryLimit: "300MiB"})
	write(t, s, bars(1, 1))
	f, err := s.file(context.Background(), mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	var limit string
	if err := f.pool.Load().QueryRow("SELECT current_setting('memory_limit')").Scan(&limit); err != nil || limit != "300.0 MiB" {
		t.Errorf("memory limit %s, %v", limit, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		"":                         "names no folder",
		"/tmp/a\tb":                "cannot open paths that hold",
		"/tmp/a?b":                 "cannot open paths that hold",
		filepath.Join(file, "sub"): "not a directory",
	} {
		if s, err := Open(context.Background(), dir, Config{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want %q", dir, s, err, want)
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	for _, limit := range []string{"256MB", "1.5 GiB", "64MiB"} {
		s := open(t, t.TempDir(), Config{MemoryLimit: limit})
		if err := s.Ping(context.Background(), mds.DefaultTenant()); err != nil {
			t.Errorf("%s: %v", limit, err)
		}
	}
	for _, limit := range []string{"lots", "512", "-1GB", "80%", "1GB'"} {
		if _, err := Open(context.Background(), t.TempDir(), Config{MemoryLimit: limit}); err == nil || !strings.Contains(err.Error(), "such as 512MB") {
			t.Errorf("%s: %v", limit, err)
		}
	}
}

func TestErrorClasses(t *testing.T) {
	for text, want := range map[string]bool{
		`IO Error: Could not set lock on file "/d/x.duckdb": Conflicting lock is held in /usr/bin/mds (PID 4711) by user joe. See also https://duckdb.org`: true,
		"TransactionContext Error: Failed to commit: Could not write file \"x.wal\": No space left on device":                                              true,
		"Binder Error: column x": false,
	} {
		err := openError(context.Background(), "/d/x.duckdb", errors.New(text))
		if mds.Retryable(err) != want {
			t.Errorf("%v: retryable %v", err, !want)
		}
	}
	locked := openError(context.Background(), "/d/x.duckdb", errors.New(`IO Error: Could not set lock on file "/d/x.duckdb": Conflicting lock is held in /usr/bin/mds (PID 4711) by user joe`))
	if want := "/d/x.duckdb is in use by /usr/bin/mds (PID 4711), and one process owns the file; wait for it to end, stop it, or reach it with --server if it is mds serve"; locked.Error() != want {
		t.Errorf("%v", locked)
	}
}

// TestLargeRowsInLittleMemory reads items of very different sizes with less
// memory than they take: many small ones, then large ones, then small ones.
func TestLargeRowsInLittleMemory(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir, Config{})
	news := NewTable[mds.News](s)
	start := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	n := 0
	write := func(items, bytes int) {
		t.Helper()
		batch := make([]mds.News, items)
		for i := range batch {
			batch[i] = mds.News{
				Vendor: fmt.Sprint("v", n%3), ID: strconv.Itoa(n), Title: "t", Summary: strings.Repeat(string(rune('a'+n%26)), bytes),
				PublishedAt: start.Add(time.Duration(n/500) * time.Minute), // large instants, too
			}
			n++
		}
		if _, err := news.WriteBatch(ctx, mds.DefaultTenant(), batch); err != nil {
			t.Fatal(err)
		}
	}
	write(10_000, 10)
	for range 20 { // 200 MB
		write(100, 100_000)
	}
	write(10_000, 10)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		query mds.Query
		limit string
	}{
		{mds.Query{}, "128MB"}, {mds.Query{Descending: true}, "128MB"},
		{mds.Query{ByIdentity: true}, "256MB"}, // ids are not in the order of rows
	} {
		store := open(t, dir, Config{ReadOnly: true, MemoryLimit: c.limit})
		read, bytes := 0, 0
		for item, err := range NewTable[mds.News](store).Query(ctx, mds.DefaultTenant(), c.query) {
			if err != nil {
				t.Fatalf("%+v, after %d items: %v", c.query, read, err)
			}
			read++
			bytes += len(item.Summary)
		}
		if read != n || bytes != 2000*100_000+20_000*10 {
			t.Errorf("%+v: %d items of %d bytes", c.query, read, bytes)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAReaderThatPanics leaves no transaction to the next one.
func TestAReaderThatPanics(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{})
	write(t, s, bars(10, 1))
	table := NewTable[mds.Bar](s)
	for range 10 { // more often than there are connections to spoil
		func() {
			defer func() { _ = recover() }()
			for range table.Query(ctx, mds.DefaultTenant(), mds.Query{}) {
				panic("the caller's")
			}
		}()
		if n, err := table.Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || n != 10 {
			t.Fatalf("%d bars, %v", n, err)
		}
	}
}

// TestLargeTextsInLittleMemory writes texts that take more than the database's memory
// together, again, some of them changed, and has them written out.
func TestLargeTextsInLittleMemory(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir, Config{MemoryLimit: "96MB"})
	table := NewTable[mds.News](s)
	random := rand.New(rand.NewPCG(3, 3))
	text := make([]byte, 200_000)
	for i := range text {
		text[i] = byte('a' + random.IntN(26))
	}
	batch := make([]mds.News, 600)
	for i := range batch {
		batch[i] = mds.News{
			Vendor: "v", ID: strconv.Itoa(i), Title: "t", PublishedAt: time.Date(2024, 1, 1, 0, 0, i, 0, time.UTC),
			Summary: string(text[i:]) + string(text[:i]),
		}
	}
	check := func(what string, batch []mds.News, want mds.Receipt) {
		t.Helper()
		if receipt, err := table.WriteBatch(ctx, mds.DefaultTenant(), batch); err != nil || receipt != want {
			t.Fatalf("%s: %+v, %v; want %+v", what, receipt, err, want)
		}
	}
	check("new", batch[:500], mds.Receipt{Written: 500, Modes: mds.WroteInsert})
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.taking(ctx, func() error { return f.writeOut(ctx) }); err != nil {
		t.Fatal(err)
	}
	check("again", batch[:500], mds.Receipt{Unchanged: 500, Modes: mds.WroteMerge})
	for i := range 10 {
		if i < 5 {
			batch[i*7].Title = "another"
		} else {
			batch[i*7].PublishedAt = batch[i*7].PublishedAt.AddDate(0, 0, i)
		}
	}
	check("some of them new or another", batch, mds.Receipt{Written: 110, Unchanged: 490, Modes: mds.WroteMerge})
	want := slices.SortedFunc(slices.Values(batch), func(a, b mds.News) int { return a.PublishedAt.Compare(b.PublishedAt) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if fileExists(filepath.Join(dir, "default.duckdb.wal")) {
		t.Error("the log was not written out at closing")
	}
	i := 0
	for item, err := range NewTable[mds.News](open(t, dir, Config{})).Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if i == len(want) || item.ID != want[i].ID || item.Title != want[i].Title || item.Summary != want[i].Summary || !item.PublishedAt.Equal(want[i].PublishedAt) {
			t.Fatalf("item %d is %s of %s, %q", i, item.ID, item.PublishedAt, item.Title)
		}
		i++
	}
	if i != len(want) {
		t.Errorf("%d items, want %d", i, len(want))
	}
}
