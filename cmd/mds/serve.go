package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds/dlq"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/apikey"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store/postgres"
)

// serveFlags are those of mds serve.
type serveFlags struct {
	listen           string
	certificate, key string
	drain            time.Duration
	dlqDir           string
}

func (a *app) serveCommand() *cobra.Command {
	f := &serveFlags{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the store over HTTP: records in and out, feedback to producers, health and metrics",
		Long: `Serve the store over HTTP, until it is interrupted. /openapi.json describes what it serves.

With DuckDB it owns the store's files: other programs reach them through it.

Where there are API keys (mds keys) when it starts, each request needs one. Without any it
serves its own machine only, and no database that others use.

When it is interrupted it takes in nothing new, answers what is under way, writes what is
queued and prints the ledger; interrupted again it leaves unwritten what is left, and
names it.`,
		Example: "  mds serve\n  curl -s localhost:8080/v1/bars?symbol=MSFT",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (f.certificate == "") != (f.key == "") {
				return usagef("--tls-cert and --tls-key belong together")
			}
			if f.drain <= 0 {
				return usagef("--drain-timeout %s: write a duration such as 30s", f.drain)
			}
			return a.serve(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8080", "the address to listen on, host:port; port 0 takes one that is free")
	flags.StringVar(&f.certificate, "tls-cert", "", "serve with TLS: the `file` of the certificate and those that signed it (PEM); read anew when it changes")
	flags.StringVar(&f.key, "tls-key", "", "the `file` of its key (PEM)")
	flags.DurationVar(&f.drain, "drain-timeout", 30*time.Second, "how long requests and what is queued have to be finished when it is interrupted")
	flags.StringVar(&f.dlqDir, "dlq-dir", a.env.DLQDir, "the folder for records that the store refuses for good (default dead-letters in the store's folder, for a server one of its own in the user's data directory; environment MDS_DLQ_DIR)")
	return cmd
}

// serve serves until ctx ends.
func (a *app) serve(ctx context.Context, f *serveFlags) error {
	host, port, err := net.SplitHostPort(f.listen)
	if err != nil {
		return usagef("--listen %q: write host:port, such as 127.0.0.1:8080", f.listen)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	cfg, err := a.serverConfig()
	if err != nil {
		return err
	}
	run := server.RunConfig{Drain: f.drain}
	if f.certificate != "" {
		if run.TLS, err = server.TLSFiles(f.certificate, f.key, cfg.Logger); err != nil {
			return usageError{err}
		}
	}
	dir, err := a.deadLetters(f.dlqDir)
	if err != nil {
		return err
	}
	most, err := a.deadLettersBound()
	if err != nil {
		return err
	}
	return a.withStore(ctx, hosting, func(s *session) (err error) {
		if err := a.guard(ctx, s, &cfg, host, f.listen); err != nil {
			return err
		}
		if cfg.Letters, err = dlq.Open(dlq.Config{Dir: dir.Path, MaxBytes: most, Logger: cfg.Logger}); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, cfg.Letters.Close()) }()
		if !postgres.IsDSN(a.dsn) {
			defer embedded(&cfg.Ingest)()
		}
		cfg.Store = s.Store
		srv, err := server.New(ctx, cfg)
		if err != nil {
			return err
		}
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, port))
		if err != nil {
			return errors.Join(usagef("--listen %s: %w", f.listen, err), srv.Stop(ctx))
		}
		fmt.Fprintf(a.stderr, "serving %s on %s://%s%s\n", s.dsn, map[bool]string{true: "https", false: "http"}[run.TLS != nil], listener.Addr(),
			map[bool]string{true: ", without keys, to this machine", false: ", with keys"}[cfg.Keys == nil])
		over, cancel := secondSignal(ctx)
		defer cancel()
		err = srv.Run(ctx, over, listener, run)
		a.printLedgers(srv)
		return err
	})
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

// serverConfig is what the flags and the environment say of a server.
func (a *app) serverConfig() (cfg server.Config, err error) {
	cfg = server.Config{Kinds: servedKinds(), Version: version(), Tenant: a.tenant}
	if cfg.Ingest, err = coordinatorSettings[any](a.env.Coordinator); err != nil {
		return cfg, err
	}
	if cfg.Logger, err = a.logger(); err != nil {
		return cfg, err
	}
	cfg.Ingest.WriteTimeout = a.sinkConfig().WriteTimeout
	return cfg, nil
}

// guard has keys be asked for where there are any, and refuses to let others in, or to serve
// a database that others use, where there are none.
func (a *app) guard(ctx context.Context, s *session, cfg *server.Config, host, listen string) error {
	keys, err := s.APIKeys(ctx)
	if err != nil {
		return err
	}
	if len(keys) > 0 { // also when all have ended: whoever had made them wants them asked for
		cfg.Keys = apikey.NewAuthenticator(s.Store, apikey.Config{})
		return nil
	}
	const make = "make one with mds keys create --scopes read,write"
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return usagef("--listen %s would let others in, and there are no API keys: %s, or listen on 127.0.0.1", listen, make)
	}
	if postgres.IsDSN(a.dsn) {
		return usagef("a database that others use is not served without API keys: %s", make)
	}
	cfg.Hosts = []string{"localhost", "127.0.0.1", "::1"}
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
