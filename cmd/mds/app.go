package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/internal/config"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/duckdb"
	"github.com/marketdatastore/mds/store/postgres"
	"github.com/marketdatastore/mds/store/remote"
)

// Exit statuses.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2 // another command line would do
	exitRejected = 3 // done, but rows were rejected
)

// app is one run of the program.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	color          bool              // stdout shows colors
	env            map[string]string // variables that are settings

	configFile string
	settings   *config.Settings

	dsn         string
	server      string
	dsnGiven    bool // by a flag
	tenant      string
	memoryLimit string
	logLevel    string
	logFormat   string

	storeMetrics *store.Metrics // of the store that is served; nil counts nothing
}

// usageError is a command line that cannot be carried out as it is.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// errRejected ends a command that did its work but rejected rows, which it
// has told already.
var errRejected = errors.New("rows were rejected")

func (a *app) run(ctx context.Context, args []string) int {
	out := &checkedWriter{Writer: a.stdout}
	a.stdout = out
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil || errors.Is(err, errRejected) {
		if lost := out.err; lost != nil {
			fmt.Fprintf(a.stderr, "mds: writing the output: %v\n", lost)
			return exitFailed
		}
	}
	if err == nil {
		return exitDone
	}
	if errors.Is(err, errRejected) {
		return exitRejected
	}
	fmt.Fprintf(a.stderr, "mds: %s\n", a.sentence(err))
	var usage usageError
	var setup *codec.SetupError
	if errors.As(err, &usage) || errors.As(err, &setup) || errors.Is(err, store.ErrDSN) || errors.Is(err, postgres.ErrDSN) || errors.Is(err, store.ErrWriteMode) || errors.Is(err, duckdb.ErrMemoryLimit) || errors.Is(err, mds.ErrTenantName) || isCobraUsage(err) {
		return exitUsage
	}
	return exitFailed
}

// sentence is the message of an error, with what to do about it.
func (a *app) sentence(err error) string {
	on := ""
	if a.dsnGiven {
		on = " --dsn " + store.Redact(a.dsn)
	}
	if remote.IsDSN(a.dsn) {
		on = " --server " + store.Redact(a.dsn)
	}
	_, nameErr := mds.NewTenant(a.tenant)
	switch {
	case needsKey(err):
		return "the server asks for an API key: set MDS_API_KEY to one; mds keys create makes it, where the store is"
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case isRefused(err) && remote.IsDSN(a.dsn):
		return fmt.Sprintf("no server answers at %s (connection refused): start one there with mds serve, or name another with --server", store.Redact(a.dsn))
	case errors.Is(err, store.ErrWriteMode) && a.settings != nil:
		return fmt.Sprintf("%s: %v", a.settings.Is("store.write_mode"), err)
	case errors.Is(err, mds.ErrNoStore):
		return fmt.Sprintf("%v yet; load something into it with: mds ingest bars FILE%s", err, on)
	case errors.Is(err, mds.ErrUnknownKey) && remote.IsDSN(a.dsn):
		return fmt.Sprintf("%v; mds keys list%s shows what there is", mds.ErrUnknownKey, on)
	case errors.Is(err, mds.ErrUnknownKey):
		return fmt.Sprintf("%v; mds keys list --all-tenants%s shows what there is", err, on)
	case errors.Is(err, mds.ErrUnknownTenant) && nameErr == nil && !remote.IsDSN(a.dsn):
		return fmt.Sprintf("%v; make it with: mds tenant create %s%s", err, a.tenant, on)
	case errors.Is(err, mds.ErrUnknownTenant):
		return fmt.Sprintf("%v; mds tenant list%s shows what there is", err, on)
	}
	return err.Error()
}

// isRefused reports that nothing listens where a server was asked, and that this is all that an
// error says: not why something was given up, nor that a proxy is not there.
func isRefused(err error) bool {
	var answer *client.Error
	var op *net.OpError
	return errors.As(err, &answer) && answer.Error() == err.Error() && errors.As(err, &op) && op.Op == "dial" && errors.Is(op, syscall.ECONNREFUSED)
}

// needsKey reports that a server asks for an API key and was given none.
func needsKey(err error) bool {
	var answer *client.Error
	return errors.As(err, &answer) && answer.Code == "no_key"
}

// checkedWriter remembers that a write failed. What is printed for people is
// printed without looking; a full disk must not pass for success.
type checkedWriter struct {
	io.Writer
	err error
}

func (w *checkedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}

// isCobraUsage recognises the one usage error that cobra reports without a
// type or a hook.
func isCobraUsage(err error) bool {
	return strings.HasPrefix(err.Error(), "unknown command")
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "mds",
		Short: "A market data store: load files, query them, keep every record once",
		Long: `mds loads market data into a store and gives it back: every record once,
however often it is sent.

The store is a folder of DuckDB files unless --dsn or MDS_DSN names another. What flags set
the environment and a file can set, too: see mds config --help.`,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,

		PersistentPreRunE: a.configure,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.configFile, "config", "", "the `file` of the settings (environment MDS_CONFIG); see mds config --help")
	addSetting(flags, "store.dsn", &a.dsn)
	addSetting(flags, "store.server", &a.server)
	addSetting(flags, "store.tenant", &a.tenant)
	addSetting(flags, "store.memory_limit", &a.memoryLimit)
	addSetting(flags, "log.level", &a.logLevel)
	addSetting(flags, "log.format", &a.logFormat)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		reason, _, _ := strings.Cut(err.Error(), ": strconv.")
		return usagef("%s; see %s --help", reason, cmd.CommandPath())
	})
	root.AddCommand(
		atTheStore(a.serveCommand()),
		a.ingestCommand(),
		a.queryCommand(),
		a.sqlCommand(),
		a.latestCommand(),
		a.tailCommand(),
		a.seriesCommand(),
		a.exportCommand(),
		a.writeCommand(),
		a.deleteCommand(),
		atTheStore(a.compactCommand()),
		a.policiesCommand(),
		a.dlqCommand(),
		a.copyCommand(),
		a.infoCommand(),
		a.pingCommand(),
		a.schemaVersionCommand(),
		atTheStore(a.migrateCommand()),
		atTheStore(a.doctorCommand()),
		a.healthCommand(),
		a.tenantCommand(),
		a.jobsCommand(),
		a.keysCommand(),
		atTheStore(a.benchCommand()),
		atTheStore(a.demoCommand()),
		a.configCommand(),
		a.versionCommand(),
	)
	return root
}

// chooseStore settles which store the settings name: the server or the DSN, whichever was
// set nearer to the command.
func (a *app) chooseStore(cmd *cobra.Command) error {
	given, set := cmd.Flags().Changed, a.settings
	nearer := set.Nearer("store.server", "store.dsn")
	switch {
	case given("server") && given("dsn"):
		return usagef("--server and --dsn each name a store: give one of them")
	case a.server != "" && a.dsn != "" && nearer == 0:
		return usagef("%s and %s each name a store: set one of them, or give --server or --dsn", set.Name("store.server"), set.Name("store.dsn"))
	case a.server != "" && nearer > 0:
		a.dsn = a.server
	case !remote.IsDSN(a.dsn):
		return nil
	}
	for c := cmd; c != nil; c = c.Parent() {
		if c.Annotations[onlyThere] != "" {
			return usagef("%s works on a store itself, not through a server: run it where the store is, with --dsn", cmd.CommandPath())
		}
	}
	if !set.IsSet("store.tenant") {
		a.tenant = "" // the key's, or the server's
	}
	return nil
}

// onlyThere marks commands that work on a store itself.
const onlyThere = "at the store"

// atTheStore has a command be refused where a server is named.
func atTheStore(cmd *cobra.Command) *cobra.Command {
	cmd.Annotations = map[string]string{onlyThere: "only"}
	return cmd
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		// Of a wrong kind it is the kind that is told, not its flags.
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		RunE: func(cmd *cobra.Command, args []string) error {
			names := make([]string, len(commands))
			for i, c := range commands {
				names[i] = c.Name()
			}
			choice := strings.Replace(and(names), " and ", " or ", 1)
			if len(args) == 0 {
				return usagef("%s: say which, %s; see %[1]s --help", cmd.CommandPath(), choice)
			}
			return usagef("%s: unknown %q; use %s", cmd.CommandPath(), args[0], choice)
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}

// noArgs refuses arguments, which are most often a forgotten flag name.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 && cmd.Flags().Lookup("symbol") == nil {
		return usagef("%s takes no arguments, and %q is one", cmd.CommandPath(), args[0])
	}
	if len(args) > 0 {
		return usagef("%s takes no arguments, and %q is one; did you mean --symbol %s?", cmd.CommandPath(), args[0], args[0])
	}
	return nil
}

// offer completes the values of a flag in a shell.
func offer(cmd *cobra.Command, flag string, values ...string) {
	// It fails for a flag that does not exist, which every test of cmd would show.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// timeframes are the values of --timeframe.
func timeframes() []string {
	var names []string
	for _, tf := range mds.Timeframes() {
		names = append(names, string(tf))
	}
	return names
}

// logger logs to standard error.
func (a *app) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
		return nil, err // the settings have refused it
	}
	options := &slog.HandlerOptions{Level: level}
	if a.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(a.stderr, options)), nil
	}
	return slog.New(slog.NewTextHandler(a.stderr, options)), nil
}

// access says what a command does with the store.
type access int

const (
	reading access = iota
	writing
	hosting      // for as long as it is not interrupted
	loading      // much, and compacting at the end
	loadingPlain // the same, of records that are small
)

// DuckDB's share where many small records are held as well, and where a server has to stay
// small.
const (
	loadingMemory = "96MB"
	hostingMemory = "80MB"
)

// session is an open store and the tenant a command works for.
type session struct {
	*store.Store
	tenant mds.Tenant
	dsn    string
	// hurried says that nobody waits for what the store still does.
	hurried bool
}

// close closes the store. Whoever is hurried does not wait for a server that hangs.
func (s *session) close() error {
	if !s.hurried {
		return s.Close()
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	select {
	case err := <-closed:
		return err
	case <-time.After(time.Second):
		return nil
	}
}

// withStore runs fn on the store and the tenant of the flags, whose data is
// open by then: what is wrong with it shows before any work is done.
func (a *app) withStore(ctx context.Context, access access, fn func(*session) error) error {
	s, err := a.open(ctx, access)
	if err != nil {
		return err
	}
	tenant, err := s.Tenant(ctx, a.tenant)
	if err == nil {
		err = s.Ping(ctx, tenant)
	}
	if err == nil && access != reading {
		err = mayWrite(ctx, s)
	}
	if err == nil {
		s.tenant = tenant
		err = fn(s)
	}
	return errors.Join(err, s.close())
}

// mayWrite refuses to begin what the key for a server does not allow.
func mayWrite(ctx context.Context, s *session) error {
	server, ok := s.Backend.(*remote.Store)
	if !ok {
		return nil
	}
	scopes, err := server.Scopes(ctx)
	if err == nil && len(scopes) > 0 && !slices.Contains(scopes, mds.ScopeWrite) {
		err = errors.New("the API key may not write: it takes one with the scope write (mds keys create --scopes read,write, where the store is)")
	}
	return err
}

// mustExist refuses a store that is not there, which opening it for writing would make.
func (a *app) mustExist(ctx context.Context) error {
	return a.withStore(ctx, reading, func(*session) error { return nil })
}

// sinkConfig gives a batch the time of its statements, one to stage it and one to merge.
func (a *app) sinkConfig() sink.Config {
	switch timeout := a.settings.Store.StatementTimeout; {
	case timeout < 0:
		return sink.Config{WriteTimeout: math.MaxInt64}
	case timeout > 0:
		return sink.Config{WriteTimeout: max(35*time.Second, 2*timeout+5*time.Second)}
	}
	return sink.Config{}
}

func (a *app) open(ctx context.Context, access access) (*session, error) {
	dsn, err := a.storeDSN()
	if err != nil {
		return nil, err
	}
	key, err := a.keyFor(dsn)
	if err != nil {
		return nil, err
	}
	return a.openDSN(ctx, dsn, key, access)
}

// storeDSN is the DSN of the flags, or of the user's own store.
func (a *app) storeDSN() (string, error) {
	if a.dsn != "" {
		return a.dsn, nil
	}
	dir, err := config.DataDir()
	if err != nil {
		return "", usagef("no place for the store (%w); name one with --dsn duckdb://DIR", err)
	}
	return "duckdb://" + dir, nil
}

// openDSN opens a store, a server with an API key.
func (a *app) openDSN(ctx context.Context, dsn, key string, how access) (*session, error) {
	logger, err := a.logger()
	if err != nil {
		return nil, err
	}
	cfg := store.Config{ReadOnly: how == reading, MemoryLimit: a.memoryLimit, WriteMode: a.settings.Store.WriteMode, Key: key, Logger: logger}
	cfg.PoolMax, cfg.StatementTimeout, cfg.Metrics = a.settings.Store.PoolMax, a.settings.Store.StatementTimeout, a.storeMetrics
	if cfg.MemoryLimit == "" {
		cfg.MemoryLimit = map[access]string{loadingPlain: loadingMemory, hosting: hostingMemory}[how]
	}
	if how == loading || how == loadingPlain {
		cfg.Compaction = duckdb.CompactManual
	}
	st, err := store.Open(ctx, dsn, cfg)
	if err != nil {
		return nil, err
	}
	return &session{Store: st, dsn: store.Redact(dsn)}, nil
}
