package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/apikey"
	"github.com/marketdatastore/mds/internal/audit"
	"github.com/marketdatastore/mds/internal/config"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/internal/systemd"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

func (a *app) serveCommand() *cobra.Command {
	var dlqDir string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the store over HTTP: records in and out, feedback to producers, health and metrics",
		Long: `Serve the store over HTTP, until it is interrupted. /openapi.json describes what it serves.

With DuckDB it owns the store's files: other programs reach them through it.

Where there are API keys (mds keys) when it starts, each request needs one. Without any it
serves its own machine only, and no database that others use.

When it is interrupted it takes in nothing new, answers what is under way, writes what is
queued and prints the ledger; interrupted again it leaves unwritten what is left, and
names it.

Limits, timeouts, rates of tenants and the origins whose pages may use it are settings of
the file and the environment: mds config print --defaults lists them.`,
		Example: "  mds serve\n  curl -s localhost:8080/v1/bars?symbol=MSFT",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.settings.Verify(); err != nil {
				return usageError{err}
			}
			return a.serve(cmd.Context(), dlqDir)
		},
	}
	flags := cmd.Flags()
	addSetting(flags, "serve.listen", nil)
	addSetting(flags, "serve.admin_listen", nil)
	addSetting(flags, "serve.audit_log", nil)
	addSetting(flags, "serve.tls_cert", nil)
	addSetting(flags, "serve.tls_key", nil)
	addSetting(flags, "serve.drain_timeout", nil)
	addSetting(flags, "dlq.dir", &dlqDir)
	return cmd
}

// serve serves until ctx ends.
func (a *app) serve(ctx context.Context, dlqDir string) (err error) {
	cfg, err := a.serverConfig()
	if err != nil {
		return err
	}
	run, err := a.runConfig(ctx, cfg.Logger)
	if err != nil {
		return err
	}
	if run.Admin != nil {
		defer run.Admin.Close() //nolint:errcheck // it is closed by then, unless nothing was served
	}
	if path := a.settings.Serve.AuditLog; path != "" {
		if cfg.Audit, err = audit.Open(path); err != nil {
			return usagef("%s: %w", a.settings.Is("serve.audit_log"), err)
		}
		defer func() { err = errors.Join(err, cfg.Audit.Close()) }()
	}
	dir, err := a.deadLetters(dlqDir)
	if err != nil {
		return err
	}
	if a.storeMetrics, err = cfg.StoreMetrics(); err != nil {
		return err
	}
	return a.withStore(ctx, hosting, func(s *session) (err error) {
		if err := a.guard(ctx, s, &cfg); err != nil {
			return err
		}
		if cfg.Letters, err = a.openLetters(dir); err != nil {
			return usagef("--dlq-dir %s: %w", dir.Path, err)
		}
		defer func() { err = errors.Join(err, cfg.Letters.Close()) }()
		if !postgres.IsDSN(a.dsn) {
			defer embedded(&cfg.Ingest)()
		}
		if err := a.warnOfRates(ctx, s, cfg.Logger); err != nil {
			return err
		}
		cfg.Store = s.Store
		if cfg.SQL, err = store.OpenSQL(ctx, s.Store, a.settings.SQL.Logins); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, cfg.SQL.Close()) }()
		if cfg.Jobs, err = a.jobsConfig(s, dir); err != nil {
			return err
		}
		if cfg.Jobs.Jobs, err = store.OpenJobs(ctx, s.Store); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, cfg.Jobs.Jobs.Close()) }()
		if cfg.Control, err = a.controlConfig(ctx, s, cfg.Logger); err != nil {
			return err
		}
		srv, err := server.New(ctx, cfg)
		if err != nil {
			return err
		}
		listener, err := a.listen(ctx, "serve.listen")
		if err != nil {
			return errors.Join(err, srv.Stop(ctx))
		}
		fmt.Fprintf(a.stderr, "serving %s on %s://%s%s\n", s.dsn, map[bool]string{true: "https", false: "http"}[run.TLS != nil], listener.Addr(),
			map[bool]string{true: ", without keys, to this machine", false: ", with keys"}[cfg.Keys == nil])
		if run.Admin != nil {
			fmt.Fprintf(a.stderr, "administration on http://%s, without keys: /debug/pprof/, /metrics, /healthz, /readyz\n", run.Admin.Addr())
		}
		defer context.AfterFunc(ctx, func() {
			fmt.Fprintf(a.stderr, "stopping: requests under way are answered and what is queued is written, within %s; interrupt again to leave it unwritten\n", run.Drain)
		})()
		over, cancel := secondSignal(ctx)
		defer cancel()
		err = srv.Run(ctx, over, listener, run)
		a.printLedgers(srv)
		return err
	})
}

// warnOfRates says which tenants have a rate of their own and are not there: their names may
// be misspelt.
func (a *app) warnOfRates(ctx context.Context, s *session, logger *slog.Logger) error {
	rates := &a.settings.Rates
	for _, slug := range slices.Sorted(maps.Keys(rates.RecordsOf)) {
		if err := warnOfTenant(ctx, s, logger, "rates.tenant_records", slug); err != nil {
			return err
		}
	}
	for _, slug := range slices.Sorted(maps.Keys(rates.RequestsOf)) {
		if err := warnOfTenant(ctx, s, logger, "rates.tenant_requests", slug); err != nil {
			return err
		}
	}
	return nil
}

func warnOfTenant(ctx context.Context, s *session, logger *slog.Logger, key, slug string) error {
	_, err := s.Tenant(ctx, slug)
	if errors.Is(err, mds.ErrUnknownTenant) {
		logger.Warn("a rate is of a tenant that is not there", "setting", key, "tenant", slug)
		return nil
	}
	return err
}

// servedQueue is how many records wait for a DuckDB store.
const servedQueue = 49_152

// embedded has a server with the database in its own process take less than 300 MB, however
// long a body is: this queue, and a heap that grows by half, beside hostingMemory and what is
// mapped of the program. The returned function undoes what holds for the process.
func embedded(cfg *ingest.Config[any]) (undo func()) {
	if cfg.Workers == 0 {
		cfg.Workers = 1 // it has one writer
	}
	if cfg.Capacity == 0 {
		cfg.Capacity = servedQueue
	}
	before := debug.SetGCPercent(50)
	return func() { debug.SetGCPercent(before) }
}

// runConfig is what the settings say of how a server runs.
func (a *app) runConfig(ctx context.Context, logger *slog.Logger) (run server.RunConfig, err error) {
	set := &a.settings.Serve
	run = server.RunConfig{Drain: set.DrainTimeout, HeaderTimeout: set.HeaderTimeout, MaxHeaderBytes: int(set.MaxHeaderBytes), Manager: manager(logger)}
	if set.TLSCert != "" {
		if run.TLS, err = server.TLSFiles(set.TLSCert, set.TLSKey, logger); err != nil {
			return run, usageError{err}
		}
	}
	if set.AdminListen != "" {
		run.Admin, err = a.listen(ctx, "serve.admin_listen")
	}
	return run, err
}

// listen listens where a setting says.
func (a *app) listen(ctx context.Context, key string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(a.settings.Text(key))
	if err != nil {
		return nil, err // the settings have refused it
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, usagef("%s: %w", a.settings.Is(key), err)
	}
	return listener, nil
}

// manager is who started the program, where it wants to be told how it is.
func manager(logger *slog.Logger) *systemd.Manager {
	cfg := systemd.Config{Logger: logger}
	cfg.Socket, cfg.WatchdogUSec, cfg.WatchdogPID = config.Systemd()
	m, err := systemd.New(cfg)
	if err != nil {
		logger.Warn("the service manager is told nothing", "error", err)
		return &systemd.Manager{}
	}
	return m
}

// webhook is where feedback is posted to, nil for nowhere.
func (a *app) webhook() *feedback.WebhookConfig {
	set := &a.settings.Feedback
	if set.WebhookURL == "" {
		return nil
	}
	cfg := &feedback.WebhookConfig{
		URL: set.WebhookURL, Secret: []byte(set.WebhookSecret), Timeout: set.WebhookTimeout, MaxRetries: set.WebhookMaxRetries, Backoff: set.WebhookBackoff,
	}
	if cfg.MaxRetries == 0 {
		cfg.MaxRetries = -1 // its 0 is the default
	}
	return cfg
}

// serverConfig is what the settings say of a server.
func (a *app) serverConfig() (cfg server.Config, err error) {
	set := &a.settings.Serve
	cfg = server.Config{
		Kinds: servedKinds(), Version: version(), Tenant: a.tenant,
		IdleTimeout: set.IdleTimeout, CommitTimeout: set.CommitTimeout, QueryTimeout: set.QueryTimeout, WriteTimeout: set.WriteTimeout,
		MaxIngests: set.MaxIngests, MaxQueries: set.MaxQueries, MaxStreams: set.MaxStreams,
		SQLTimeout: a.settings.SQL.Timeout, SQLMaxRows: a.settings.SQL.MaxRows,
		MaxBodyBytes: set.MaxBodyBytes, BodyMemory: set.BodyMemory, Origins: set.CORSOrigins,
		Webhook: a.webhook(),
	}
	cfg.Ingest = coordinatorSettings[any](a.settings)
	rates := &a.settings.Rates
	cfg.Ingest.Rate = rateOf(rates.Records, rates.RecordsOf)
	cfg.RequestRate = rateOf(rates.Requests, rates.RequestsOf)
	if cfg.Logger, err = a.logger(); err != nil {
		return cfg, err
	}
	cfg.Ingest.WriteTimeout = a.sinkConfig().WriteTimeout
	return cfg, nil
}

// rateOf is the rate of each tenant: its own, or else that of all. It is nil where none has one.
func rateOf(all float64, own map[string]float64) func(mds.Tenant) float64 {
	if all == 0 && len(own) == 0 {
		return nil
	}
	return func(t mds.Tenant) float64 {
		if rate, ok := own[t.Slug]; ok {
			return rate
		}
		return all
	}
}

// guard has keys be asked for where there are any, and refuses to let others in, or to serve
// a database that others use, where there are none.
func (a *app) guard(ctx context.Context, s *session, cfg *server.Config) error {
	keys, err := s.APIKeys(ctx)
	if err != nil {
		return err
	}
	if len(keys) > 0 { // also when all have ended: whoever had made them wants them asked for
		cfg.Keys = apikey.NewAuthenticator(s.Store, apikey.Config{})
		return nil
	}
	const make = "make one with mds keys create --scopes read,write"
	host, _, _ := net.SplitHostPort(a.settings.Serve.Listen) // the settings have looked at it
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return usagef("%s: it would let others in, and there are no API keys: %s, or listen on 127.0.0.1", a.settings.Is("serve.listen"), make)
	}
	if postgres.IsDSN(a.dsn) {
		return usagef("a database that others use is not served without API keys: %s", make)
	}
	if slices.Contains(cfg.Origins, "*") {
		return usagef("%s: pages of any origin may use a server only where it asks for API keys: %s, or name the origins", a.settings.Is("serve.cors_origins"), make)
	}
	cfg.Hosts = server.Loopback()
	return nil
}

// secondSignal is a context that ends at the second signal: the first ends ctx.
func secondSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	over, cancel := context.WithCancel(context.WithoutCancel(ctx))
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer signal.Stop(signals)
		for range 2 {
			select {
			case <-signals:
			case <-over.Done():
				return
			}
		}
		cancel()
	}()
	return over, cancel
}

// printLedgers says what became of what was taken in.
func (a *app) printLedgers(srv *server.Server) {
	for _, l := range srv.Ledgers() {
		fmt.Fprintf(a.stderr, "%s of tenant %s: %s accepted: %s written, %s unchanged, %s superseded, %s dead-lettered, %s dropped, %s unwritten\n",
			l.Kind, l.Tenant, count(l.Accepted), count(l.Written), count(l.Unchanged), count(l.Superseded), count(l.DeadLettered), count(l.Dropped), count(l.Pending))
	}
}
