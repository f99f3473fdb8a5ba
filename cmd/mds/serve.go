package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds/dlq"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store/postgres"
)

// serveFlags are those of mds serve.
type serveFlags struct {
	listen string
	drain  time.Duration
	dlqDir string
}

func (a *app) serveCommand() *cobra.Command {
	f := &serveFlags{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the store over HTTP: records in and out, feedback to producers, health and metrics",
		Long: `Serve the store over HTTP, until it is interrupted. /openapi.json describes what it serves.

With DuckDB it owns the store's files: other programs reach them through it.

When it is interrupted it takes in nothing new, answers what is under way, writes what is
queued and prints the ledger; interrupted again it leaves unwritten what is left, and
names it.`,
		Example: "  mds serve\n  curl -s localhost:8080/v1/bars?symbol=MSFT",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.drain <= 0 {
				return usagef("--drain-timeout %s: write a duration such as 30s", f.drain)
			}
			return a.serve(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8080", "the address to listen on, host:port; port 0 takes one that is free")
	flags.DurationVar(&f.drain, "drain-timeout", 30*time.Second, "how long requests and what is queued have to be finished when it is interrupted")
	flags.StringVar(&f.dlqDir, "dlq-dir", a.env.DLQDir, "the folder for records that the store refuses for good (default dead-letters in the store's folder, for a server one of its own in the user's data directory; environment MDS_DLQ_DIR)")
	return cmd
}

// serve serves until ctx ends.
func (a *app) serve(ctx context.Context, f *serveFlags) (err error) {
	address, err := a.loopback(f.listen)
	if err != nil {
		return err
	}
	cfg, err := coordinatorSettings[any](a.env.Coordinator)
	if err != nil {
		return err
	}
	logger, err := a.logger()
	if err != nil {
		return err
	}
	dir, err := a.deadLetters(f.dlqDir)
	if err != nil {
		return err
	}
	most, err := a.deadLettersBound()
	if err != nil {
		return err
	}
	return a.withStore(ctx, writing, func(s *session) (err error) {
		letters, err := dlq.Open(dlq.Config{Dir: dir.Path, MaxBytes: most, Logger: logger})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, letters.Close()) }()
		if strings.HasPrefix(s.dsn, "duckdb:") && cfg.Workers == 0 {
			cfg.Workers = 1 // it has one writer
		}
		cfg.WriteTimeout = a.sinkConfig().WriteTimeout
		srv, err := server.New(ctx, server.Config{
			Store: s.Store, Kinds: servedKinds(), Ingest: cfg, Letters: letters, Version: version(), Logger: logger,
			Tenant: a.tenant, Hosts: []string{"localhost", "127.0.0.1", "::1"},
		})
		if err != nil {
			return err
		}
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return errors.Join(usagef("--listen %s: %w", f.listen, err), srv.Stop(ctx))
		}
		fmt.Fprintf(a.stderr, "serving %s on http://%s\n", s.dsn, listener.Addr())
		over, cancel := secondSignal(ctx)
		defer cancel()
		err = srv.Run(ctx, over, listener, server.RunConfig{Drain: f.drain})
		a.printLedgers(srv)
		return err
	})
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

// loopback refuses to serve others than the machine's own, and databases of several, without
// keys.
func (a *app) loopback(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", usagef("--listen %q: write host:port, such as 127.0.0.1:8080", listen)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.IsLoopback() {
		return "", usagef("--listen %s would let others in without keys: listen on 127.0.0.1", listen)
	}
	if postgres.IsDSN(a.dsn) {
		return "", usagef("a database that others use is not served without keys")
	}
	return net.JoinHostPort(host, port), nil
}
