package duckdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/marketdatastore/mds"
)

const extension = ".duckdb"

// Config configures a [Store]. The zero value is usable.
type Config struct {
	// ReadOnly opens files for reading, which several processes may do at
	// once, and makes none: a store that is not there is an error that wraps
	// [mds.ErrNoStore]. A file of an older schema is not migrated: kinds that it
	// does not have yet are empty. Defaults to false.
	ReadOnly bool

	// MemoryLimit bounds DuckDB's own memory per open tenant: a number and one
	// of KB, MB, GB, KiB, MiB, GiB, 64MB at least. To write texts out to the file
	// (fundamentals, news) it may take up to 1.5 GB for a moment. Defaults to 512MB.
	MemoryLimit string

	// WriteMode is how batches are written: "auto" appends rows that lie outside of
	// what their series has and merges the others, "merge" merges all. What is stored
	// is the same. Defaults to "auto".
	WriteMode string

	// Compaction says when rows are put in order for queries by series: "auto" when
	// little is written, at close and on demand, "manual" on demand only. Defaults to
	// "auto".
	Compaction string

	// Migrations make the tables of kinds beside those of this module: files
	// duckdb/1001_NAME.sql, numbered from 1001 without a gap, which are applied
	// after the ones of this module. Defaults to none.
	Migrations fs.FS

	// Migrated is called after each migration of a file. Defaults to nothing.
	Migrated func(version int, name string)

	// Logger receives what happens to the files. Defaults to discarding it.
	Logger *slog.Logger
}

// The write modes.
const (
	WriteAuto  = "auto"
	WriteMerge = "merge"
)

// When rows are put in order.
const (
	CompactAuto   = "auto"
	CompactManual = "manual"
)

func (c Config) withDefaults() Config {
	if c.WriteMode == "" {
		c.WriteMode = WriteAuto
	}
	if c.Compaction == "" {
		c.Compaction = CompactAuto
	}
	if c.MemoryLimit == "" {
		c.MemoryLimit = "512MB"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Store is a folder of DuckDB files, one a tenant. It is safe for concurrent
// use.
type Store struct {
	dir    string
	cfg    Config
	memory int64 // DuckDB's, in bytes

	layout    layout
	maxLatest int // usualLatest but in tests

	mu     sync.Mutex
	files  map[string]*slot // by slug
	closed bool

	jobs    *jobFile
	keeping gate // had alone by whoever puts policies in force
}

// slot is the place of one tenant's file, which is opened at its first use.
// Opening one keeps nobody from the others.
type slot struct {
	gate gate // had alone by whoever looks at or opens the file
	file *file
}

var memoryLimit = regexp.MustCompile(`^[0-9]+(\.[0-9]+)? ?[KMGkmg]i?[Bb]$`)

// ErrMemoryLimit is wrapped by the refusal of a [Config.MemoryLimit].
var ErrMemoryLimit = errors.New("memory limit")

// With less memory DuckDB fails at the simplest things, and at some ends the process.
const (
	leastMemory = 64 << 20
	mostMemory  = 1e6 << 30
)

// bytesOf reads a memory limit.
func bytesOf(limit string) int64 {
	number := strings.TrimRight(limit, " KMGkmgiBb")
	n, _ := strconv.ParseFloat(number, 64) // Open has checked it
	unit := map[byte]float64{'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30}
	return int64(n * unit[strings.ToUpper(strings.TrimSpace(limit[len(number):]))[0]])
}

// Open returns the store in a folder, which is made if absent (unless the
// store is for reading only). Files are opened at their tenant's first use.
func Open(ctx context.Context, dir string, cfg Config) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if dir == "" {
		return nil, errors.New("the DSN names no folder; write duckdb://DIR")
	}
	if strings.HasPrefix(dir, "~") {
		return nil, fmt.Errorf("folder %q: a shell puts your home in place of ~ only at the start of a word; write it out", dir)
	}
	cfg = cfg.withDefaults()
	if !memoryLimit.MatchString(cfg.MemoryLimit) {
		return nil, fmt.Errorf("%w %q: use a number and KB, MB or GB, such as 512MB or 2GB", ErrMemoryLimit, cfg.MemoryLimit)
	}
	if bytes := bytesOf(cfg.MemoryLimit); bytes < leastMemory || bytes > mostMemory {
		return nil, fmt.Errorf("%w %q: use 64MB to 1000000GB", ErrMemoryLimit, cfg.MemoryLimit)
	}
	if cfg.WriteMode != WriteAuto && cfg.WriteMode != WriteMerge {
		return nil, fmt.Errorf("write mode %q: use %s or %s", cfg.WriteMode, WriteAuto, WriteMerge)
	}
	if cfg.Compaction != CompactAuto && cfg.Compaction != CompactManual {
		return nil, fmt.Errorf("compaction %q: use %s or %s", cfg.Compaction, CompactAuto, CompactManual)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(abs, "?%#") || strings.ContainsFunc(abs, unicode.IsControl) {
		return nil, fmt.Errorf("folder %q: the driver cannot open paths that hold '?', '%%', '#' or control characters; choose another", abs)
	}
	s := &Store{dir: abs, cfg: cfg, memory: bytesOf(cfg.MemoryLimit), layout: usualLayout, maxLatest: usualLatest, files: make(map[string]*slot), jobs: newJobFile(abs, cfg.ReadOnly), keeping: newGate()}
	if cfg.ReadOnly {
		stat, err := os.Stat(abs)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, folderError(abs, err)
		}
		if err == nil && !stat.IsDir() {
			return nil, &Error{Op: "open", Err: fmt.Errorf("%s is a file", abs), Hint: "name the folder that it is in"}
		}
		if err != nil {
			return nil, s.noStore()
		}
		return s, nil
	}
	if err := os.MkdirAll(abs, 0o750); err != nil {
		return nil, folderError(abs, err)
	}
	return s, nil
}

// Identity tells the store from others, whatever the DSN: it is the folder.
func (s *Store) Identity(context.Context) (string, error) { return filepath.EvalSymlinks(s.dir) }

// sortRows is how many rows are sorted at a time: what takes a good part of DuckDB's
// memory, at half a kilobyte a row.
func (s *Store) sortRows() int64 {
	const least = 20_000
	return max(least, s.memory/512)
}

func (s *Store) noStore() error {
	return fmt.Errorf("%w in %s", mds.ErrNoStore, s.dir)
}

func folderError(dir string, err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return &Error{Op: "open", Err: fmt.Errorf("folder %s: %w", dir, err), Hint: "name another with --dsn duckdb://DIR"}
}

// Dir returns the absolute path of the folder.
func (s *Store) Dir() string { return s.dir }

// Close closes every file, after the write under way; writes that wait their
// turn are refused. Queries under way go on to their end, and the last of a
// file closes it. Close is idempotent.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	slots := s.files
	s.files = nil
	s.mu.Unlock()
	var wg sync.WaitGroup
	errs := make(chan error, len(slots)+1)
	wg.Go(func() { errs <- s.jobs.close(true) })
	for _, slot := range slots {
		wg.Go(func() {
			ctx := context.Background()                 //nolint:forbidigo // Close has none
			if err := slot.gate.lock(ctx); err != nil { // waits for an opening under way
				errs <- err
				return
			}
			defer slot.gate.unlock()
			if slot.file != nil {
				errs <- slot.file.close(errClosed)
				slot.file = nil
			}
		})
	}
	wg.Wait()
	close(errs)
	var joined error
	for err := range errs {
		joined = errors.Join(joined, err)
	}
	return joined
}

// Tenants lists the tenants in order of their slugs. The default tenant is
// always among them, even before its file is made.
func (s *Store) Tenants(_ context.Context) ([]mds.Tenant, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, folderError(s.dir, err)
	}
	tenants := []mds.Tenant{mds.DefaultTenant()}
	for _, entry := range entries {
		slug, ours := strings.CutSuffix(entry.Name(), extension)
		tenant, err := mds.NewTenant(slug)
		if ours && err == nil && !entry.IsDir() && tenant != mds.DefaultTenant() {
			tenants = append(tenants, tenant)
		}
	}
	slices.SortFunc(tenants, func(a, b mds.Tenant) int { return strings.Compare(a.Slug, b.Slug) })
	return tenants, nil
}

// Tenant finds a tenant by slug or UUID. The error wraps
// [mds.ErrUnknownTenant].
func (s *Store) Tenant(ctx context.Context, slugOrID string) (mds.Tenant, error) {
	tenants, err := s.Tenants(ctx)
	if err != nil {
		return mds.Tenant{}, err
	}
	return mds.FindTenant(tenants, slugOrID)
}

func unknownTenant(name string) error {
	return fmt.Errorf("%w %q", mds.ErrUnknownTenant, name)
}

// CreateTenant makes the file of a new tenant. The error wraps
// [mds.ErrTenantExists] where there is one already.
func (s *Store) CreateTenant(ctx context.Context, slug string) (mds.Tenant, error) {
	tenant, err := mds.NewTenant(slug)
	if err != nil {
		return mds.Tenant{}, err
	}
	if s.cfg.ReadOnly {
		return mds.Tenant{}, errReadOnly
	}
	if err := s.keeping.share(ctx); err != nil { // it inherits all policies that are put in force, or none of them yet
		return mds.Tenant{}, wrap(ctx, "open", err)
	}
	defer s.keeping.unshare()
	slot, err := s.slot(tenant)
	if err != nil {
		return mds.Tenant{}, err
	}
	if err := slot.gate.lock(ctx); err != nil {
		return mds.Tenant{}, wrap(ctx, "open", err)
	}
	defer slot.gate.unlock()
	if tenant == mds.DefaultTenant() || fileExists(s.path(tenant)) {
		return mds.Tenant{}, fmt.Errorf("%w: %s", mds.ErrTenantExists, slug)
	}
	if err := s.forgetKeys(ctx, tenant); err != nil {
		return mds.Tenant{}, err
	}
	if err := s.openSlot(ctx, slot, tenant); err != nil {
		return mds.Tenant{}, err
	}
	return tenant, wrap(ctx, "create tenant", s.inherit(ctx, slot.file))
}

// forgetKeys removes the API keys of a tenant that is made, which one of that name has left
// whose file somebody has moved away.
func (s *Store) forgetKeys(ctx context.Context, tenant mds.Tenant) error {
	if !fileExists(filepath.Join(s.dir, keyFileName)) {
		return nil
	}
	held, err := holdKeys(ctx, s.dir)
	if err != nil {
		return err
	}
	defer held.release()
	return held.forget(tenant)
}

// inherit gives the file of a new tenant the policies of the default tenant's. Where that
// is another process's they come when policies are applied the next time.
func (s *Store) inherit(ctx context.Context, f *file) error {
	if !fileExists(s.path(mds.DefaultTenant())) {
		return nil
	}
	list, err := s.Policies(ctx, mds.DefaultTenant())
	if err != nil {
		s.cfg.Logger.WarnContext(ctx, "a new tenant has no policies until they are applied again", "tenant", f.tenant.Slug, "error", firstLineError{err})
		return nil //nolint:nilerr // it is told
	}
	for i := range list {
		err := f.taking(ctx, func() error {
			_, err := f.keep(ctx, &list[i].Policy)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// RemoveTenant removes a tenant and all that it has, after the write under way. It
// refuses the default tenant, which always exists, and one that queries are under way
// of. The error wraps [mds.ErrUnknownTenant] where there is none.
func (s *Store) RemoveTenant(ctx context.Context, tenant mds.Tenant) error {
	if s.cfg.ReadOnly {
		return errReadOnly
	}
	if tenant == mds.DefaultTenant() {
		return &Error{Op: "remove", Err: errors.New("the default tenant always exists"), Hint: "remove what it has, kind by kind"}
	}
	if err := ctx.Err(); err != nil {
		return wrap(ctx, "remove", err)
	}
	f, err := s.file(ctx, tenant) // another process may have it, and keeps it
	if err != nil {
		return err
	}
	slot, err := s.slot(tenant)
	if err != nil {
		return err
	}
	if err := slot.gate.lock(ctx); err != nil {
		return wrap(ctx, "remove", err)
	}
	defer slot.gate.unlock()
	if slot.file != f {
		return unknownTenant(tenant.Slug)
	}
	f.upkeep.interrupt()
	if err := f.lockWriter(ctx); err != nil {
		return wrap(ctx, "remove", err)
	}
	releaseJobs, err := s.jobs.hold(ctx) // another process may have them, too
	if err != nil {
		f.unlockWriter()
		return wrap(ctx, "remove", err)
	}
	defer releaseJobs()
	keys, err := holdKeys(ctx, s.dir) // after all else that is waited for: they may have to be revoked meanwhile
	if err != nil {
		f.unlockWriter()
		return err
	}
	defer keys.release()
	if !f.readers.exclude() {
		f.unlockWriter()
		return &Error{Op: "remove", Err: fmt.Errorf("queries of tenant %s are under way", tenant.Slug), Hint: "try again when they have ended", retry: true}
	}
	f.upkeep.drop()
	slot.file, f.gone = nil, unknownTenant(tenant.Slug)
	close(f.closed)
	if err := f.shut(); err != nil {
		return wrap(ctx, "remove", err)
	}
	// The keys, the jobs and the log first: they must not be found beside another file of the
	// name.
	if err := keys.forget(tenant); err != nil {
		return err
	}
	if err := s.jobs.forget(context.WithoutCancel(ctx), tenant); err != nil {
		return wrap(ctx, "remove", err)
	}
	path := s.path(tenant)
	return errors.Join(os.RemoveAll(path+".wal"), os.RemoveAll(path+".tmp"), os.Remove(path))
}

var errReadOnly = &Error{Op: "open", Err: errors.New("the store was opened for reading only")}

var errClosed = &Error{Op: "open", Err: errors.New("the store is closed")}

func (s *Store) path(tenant mds.Tenant) string {
	return filepath.Join(s.dir, tenant.Slug+extension)
}

// file returns the open file of a tenant that exists.
func (s *Store) file(ctx context.Context, tenant mds.Tenant) (*file, error) {
	if err := ctx.Err(); err != nil {
		return nil, wrap(ctx, "open", err)
	}
	want, err := mds.NewTenant(tenant.Slug)
	if err != nil || want != tenant {
		return nil, unknownTenant(tenant.Slug)
	}
	slot, err := s.slot(tenant)
	if err != nil {
		return nil, err
	}
	if err := slot.gate.lock(ctx); err != nil {
		return nil, wrap(ctx, "open", err)
	}
	defer slot.gate.unlock()
	if slot.file != nil {
		return slot.file, nil
	}
	if !fileExists(s.path(tenant)) {
		switch {
		case tenant != mds.DefaultTenant():
			return nil, unknownTenant(tenant.Slug)
		case s.cfg.ReadOnly:
			return nil, s.noStore()
		}
	}
	err = s.openSlot(ctx, slot, tenant)
	return slot.file, err
}

// slot returns the place of a tenant's file in an open store.
func (s *Store) slot(tenant mds.Tenant) (*slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if s.files[tenant.Slug] == nil {
		s.files[tenant.Slug] = &slot{gate: newGate()}
	}
	return s.files[tenant.Slug], nil
}

// openSlot opens or makes a tenant's file. The caller holds the slot.
func (s *Store) openSlot(ctx context.Context, slot *slot, tenant mds.Tenant) error {
	f, err := openFile(ctx, s.path(tenant), tenant, s.cfg)
	if err != nil {
		return wrap(ctx, "open", err)
	}
	slot.file = f
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed { // while it was opened, by a Close that did not see it
		slot.file = nil
		return errors.Join(errClosed, f.close(errClosed))
	}
	return nil
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Ping checks that the tenant's file opens and answers.
func (s *Store) Ping(ctx context.Context, tenant mds.Tenant) error {
	f, err := s.file(ctx, tenant)
	if err != nil {
		return err
	}
	return wrap(ctx, "ping", f.snapshot(ctx, false, func(conn *reader) error {
		var one int
		return conn.one(ctx, "SELECT 1", nil, &one)
	}))
}

// SchemaVersion returns the schema version of the tenant's file.
func (s *Store) SchemaVersion(ctx context.Context, tenant mds.Tenant) (int, error) {
	f, err := s.file(ctx, tenant)
	if err != nil {
		return 0, err
	}
	return int(f.version.Load()), nil
}

// TenantMade is when the tenant's file was made.
func (s *Store) TenantMade(ctx context.Context, tenant mds.Tenant) (made time.Time, err error) {
	f, err := s.file(ctx, tenant)
	if err != nil {
		return made, err
	}
	err = f.snapshot(ctx, false, func(r *reader) error {
		return r.one(ctx, "SELECT min(applied_at) FROM mds_migrations", nil, &made)
	})
	return made, wrap(ctx, "tenants", err)
}

// Info describes the tenant's file and what it holds of each kind.
func (s *Store) Info(ctx context.Context, tenant mds.Tenant) (mds.StoreInfo, error) {
	f, err := s.file(ctx, tenant)
	if err != nil {
		return mds.StoreInfo{}, err
	}
	info, err := f.info(ctx)
	return info, wrap(ctx, "info", err)
}
