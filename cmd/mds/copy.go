package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/load"
	"github.com/marketdatastore/mds/internal/transfer"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
)

// errIncomplete ends a copy that did not bring all over, which it has told already.
var errIncomplete = errors.New("not all of it is there as it is")

// copyFlags are what is copied.
type copyFlags struct {
	kinds, symbols, timeframes []string
	vendor                     string
	start, end, tz             string
	compare, allTenants        bool
	perSeries, json            bool
}

func (a *app) copyCommand() *cobra.Command {
	var f copyFlags
	cmd := &cobra.Command{
		Use:   "copy FROM TO",
		Short: "Copy records from one store to another, and compare the two",
		Long: `Copy records from the store FROM to the store TO, each a DSN, of any engines: all that a
tenant has, or what the flags pick. Afterwards both are read and compared, series by
series, by the number of records and a checksum.

What is there already as it is is not written again, so that after an interruption the
same command goes on where it was. A record that TO has otherwise is replaced; none is
removed. The exit status is 0 when every record of FROM is in TO as it is, and 1 when
not; the tables then tell which differ. --compare looks only, and changes nothing.

Passwords may be left out of the DSNs: they are taken from PGPASSWORD or ~/.pgpass.`,
		Example: `  mds copy duckdb://$HOME/.local/share/mds postgres://mds@localhost/market
  mds copy postgres://mds@localhost/market duckdb://backup --all-tenants
  mds copy duckdb://a duckdb://b --kind bars --symbol MSFT,AAPL --start 2024-01-01`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("%s needs two stores: %[1]s FROM TO", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("dsn") {
				return usagef("mds copy takes its stores as arguments, FROM and TO, and no --dsn")
			}
			if err := noEmptyFlags(cmd); err != nil {
				return err
			}
			return a.copy(cmd.Context(), cmd, args[0], args[1], &f)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.kinds, "kind", nil, "only these kinds, separated by commas")
	flags.StringVar(&f.vendor, "vendor", "", "only this vendor")
	flags.StringSliceVar(&f.symbols, "symbol", nil, "only these symbols, separated by commas")
	flags.StringSliceVar(&f.timeframes, "timeframe", nil, "only bars of these timeframes, separated by commas")
	flags.StringVar(&f.start, "start", "", "from this time on, such as 2020-11-27 or 2020-11-27T14:30:00Z")
	flags.StringVar(&f.end, "end", "", "before this time")
	flags.StringVar(&f.tz, "tz", "UTC", "the time zone of times given without an offset")
	flags.BoolVar(&f.allTenants, "all-tenants", false, "each tenant of FROM, rather than that of --tenant")
	flags.BoolVar(&f.compare, "compare", false, "compare only, and change nothing")
	flags.BoolVar(&f.perSeries, "series", false, "print the numbers and checksums of each series")
	flags.BoolVar(&f.json, "json", false, "print one JSON document, with each series")
	offer(cmd, "timeframe", timeframes()...)
	return cmd
}

// selection turns the flags into what is picked of a kind; ok is false for a kind that
// they leave out.
func (f *copyFlags) selection(k kind) (sel mds.Selection, ok bool, err error) {
	if len(f.kinds) > 0 && !slices.Contains(f.kinds, k.name) || len(f.timeframes) > 0 && !k.timeframe {
		return sel, false, nil
	}
	sel.Vendor = f.vendor
	if sel.Symbols, err = cleanList("symbol", f.symbols); err != nil {
		return sel, false, err
	}
	var frames []string
	for _, text := range f.timeframes {
		tf, err := mds.ParseTimeframe(text)
		if err != nil {
			return sel, false, usagef("--timeframe: %w", err)
		}
		frames = append(frames, string(tf))
	}
	if frames != nil {
		sel.Where = map[string][]string{"timeframe": frames}
	}
	if sel.Start, sel.End, _, err = window(f.start, f.end, f.tz); err != nil {
		return sel, false, err
	}
	return sel, true, nil
}

func (a *app) copy(ctx context.Context, cmd *cobra.Command, from, to string, f *copyFlags) (err error) {
	for _, name := range f.kinds {
		if !slices.ContainsFunc(kinds(), func(k kind) bool { return k.name == name }) {
			var names []string
			for _, k := range kinds() {
				names = append(names, k.name)
			}
			return usagef("--kind %q: use %s", name, strings.Replace(and(names), " and ", " or ", 1))
		}
	}
	if f.allTenants && cmd.Flags().Changed("tenant") {
		return usagef("--all-tenants copies each tenant, and --tenant names one: give one of them")
	}
	if strings.TrimRight(from, "/") == strings.TrimRight(to, "/") {
		return usagef("FROM and TO are the same store")
	}
	selections := make(map[string]mds.Selection)
	for _, k := range kinds() {
		sel, ok, err := f.selection(k)
		if err != nil {
			return err
		}
		if ok {
			selections[k.name] = sel
		}
	}
	if len(selections) == 0 {
		return usagef("--timeframe picks bars, and --kind leaves them out")
	}
	source, err := a.openDSN(ctx, from, reading)
	if err != nil {
		return fmt.Errorf("from %s: %w", store.Redact(from), err)
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	access := loading
	if f.compare {
		access = reading
	}
	target, err := a.openDSN(ctx, to, access)
	if err != nil {
		return fmt.Errorf("to %s: %w", store.Redact(to), err)
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	var tenants []mds.Tenant
	if f.allTenants {
		tenants, err = source.Tenants(ctx)
	} else {
		var tenant mds.Tenant
		tenant, err = source.Tenant(ctx, a.tenant)
		tenants = append(tenants, tenant)
	}
	if err != nil {
		return fmt.Errorf("from %s: %w", source.dsn, err)
	}
	var copies []copied
	complete := true
	for _, tenant := range tenants {
		if err := target.have(ctx, tenant, f.compare); err != nil {
			return fmt.Errorf("to %s: %w", target.dsn, err)
		}
		source.tenant, target.tenant = tenant, tenant
		for _, k := range kinds() {
			sel, ok := selections[k.name]
			if !ok {
				continue
			}
			done, err := k.copy(ctx, a, source, target, sel, f)
			if err != nil && ctx.Err() != nil {
				return errors.New("interrupted: what was copied is there; run the same command again for the rest")
			}
			if err != nil {
				return fmt.Errorf("%s of the tenant %s: %w; run the same command again: what was copied is there", k.name, tenant.Slug, err)
			}
			complete = complete && done.Complete
			if done.From.Records == 0 && done.Others == 0 && len(f.kinds) == 0 {
				continue // there is nothing to tell
			}
			if copies = append(copies, done); !f.json {
				a.printCopied(done, len(copies) == 1, f)
			}
		}
	}
	switch {
	case f.json:
		err = writeJSON(a.stdout, copies)
	case len(copies) == 0:
		fmt.Fprintf(a.stdout, "%s has nothing of what is picked\n", source.dsn)
	case complete:
		fmt.Fprintf(a.stdout, "every record of %s is in %s as it is\n", source.dsn, target.dsn)
	}
	if err == nil && !complete {
		err = errIncomplete
	}
	return err
}

// have makes a tenant where there is none.
func (s *session) have(ctx context.Context, tenant mds.Tenant, compare bool) error {
	_, err := s.Tenant(ctx, tenant.Slug)
	if errors.Is(err, mds.ErrUnknownTenant) && !compare {
		_, err = s.CreateTenant(ctx, tenant.Slug)
	}
	return err
}

// copied is what became of a kind.
type copied struct {
	Tenant   string         `json:"tenant"`
	Kind     string         `json:"kind"`
	Complete bool           `json:"complete"`
	From     transfer.Sum   `json:"from"`
	To       transfer.Sum   `json:"to"`
	Receipt  mds.Receipt    `json:"receipt"`
	Skipped  int            `json:"series_there_already"`
	Others   int            `json:"other_series"`
	Series   []copiedSeries `json:"series"`
	More     int64          `json:"more"`
	Seconds  float64        `json:"seconds"`

	missing, different int64
}

type copiedSeries struct {
	Name      string       `json:"name"`
	From      transfer.Sum `json:"from"`
	To        transfer.Sum `json:"to"`
	Missing   int64        `json:"missing"`
	Different int64        `json:"different"`
	More      int64        `json:"more"`
	First     string       `json:"first_difference,omitempty"`
}

// copyKind copies a kind of a tenant.
func copyKind[R mds.Record[R]](ctx context.Context, a *app, from, to *session, sel mds.Selection, f *copyFlags) (copied, error) {
	schema := mds.SchemaOf[R]()
	done := copied{Tenant: from.tenant.Slug, Kind: schema.Kind}
	sel, err := schema.Expand(sel)
	if err != nil {
		return done, usagef("--symbol: %w", err)
	}
	progress := newProgress(a.stderr)
	cfg := transfer.Config[R]{
		From: store.TableOf[R](from.Store), To: store.TableOf[R](to.Store), Tenant: from.tenant, Selection: sel,
		Progress: func(done, total int64) {
			progress.update(load.Progress{Ledger: load.Ledger{Read: done}, Bytes: done, Total: total})
		},
	}
	if !f.compare {
		cfg.Write = sink.New(store.TableOf[R](to.Store), a.sinkConfig()).For(to.tenant).Write
	}
	result, err := transfer.Run(ctx, cfg)
	progress.done()
	if err != nil {
		return done, err
	}
	done.Complete, done.From, done.To, done.Receipt = result.Complete(), result.From, result.To, result.Receipt
	done.Skipped, done.Others, done.More, done.Seconds = result.Skipped, result.Others, result.More, result.Elapsed.Seconds()
	done.missing, done.different = result.Missing, result.Different
	if done.From.Records > 0 {
		what := "copied"
		if f.compare {
			what = "read"
		}
		fmt.Fprintf(a.stderr, "%s of the tenant %s: %s records %s in %.1f s, compared in %.1f s\n", done.Kind, done.Tenant, count(done.From.Records), what, result.Copying.Seconds(), result.Comparing.Seconds())
	}
	done.Series = make([]copiedSeries, len(result.Series))
	for i := range result.Series {
		s := &result.Series[i]
		done.Series[i] = copiedSeries{seriesName(&schema, &s.Identity), s.From, s.To, s.Missing, s.Different, s.More, s.First}
	}
	if !f.compare {
		err = tidy[R](ctx, a, to, result.Receipt.Written)
	}
	return done, err
}

// seriesName is what identifies a series, such as "nasdaq/MSFT/1m".
func seriesName[R any](schema *mds.Schema[R], identity *R) string {
	var parts []string
	for _, c := range schema.ByRole(mds.Identity) {
		parts = append(parts, string(c.AppendText(nil, identity)))
	}
	return strings.Join(parts, "/")
}

// printCopied prints a line, those of what differs, and those of each series.
func (a *app) printCopied(c copied, header bool, f *copyFlags) {
	if header {
		fmt.Fprintf(a.stdout, "%-12s %-13s %9s  %-33s  %-33s  %12s  %s\n", "tenant", "kind", "series", "FROM: records, checksum", "TO: records, checksum", "written", "verdict")
	}
	verdict := "identical"
	var parts []string
	for _, p := range []struct {
		n    int64
		what string
	}{{c.missing, "missing"}, {c.different, "different"}, {c.More, "more in TO"}} {
		if p.n > 0 {
			parts = append(parts, count(p.n)+" "+p.what)
		}
	}
	if parts != nil {
		verdict = strings.Join(parts, ", ")
	}
	if c.Others > 0 {
		verdict += fmt.Sprintf(" (TO has %s beside)", pluralSeries(c.Others))
	}
	written := count(c.Receipt.Written)
	if f.compare {
		written = "-"
	}
	fmt.Fprintf(a.stdout, "%-12s %-13s %9s  %s  %s  %12s  %s\n", c.Tenant, c.Kind, count(int64(len(c.Series))), sumText(c.From), sumText(c.To), written, verdict)
	const most = 20
	told := 0
	for i := range c.Series {
		s := &c.Series[i]
		if f.perSeries {
			fmt.Fprintf(a.stdout, "  %s  %s  %s\n", sumText(s.From), sumText(s.To), s.Name)
		}
		if s.Missing+s.Different == 0 {
			continue
		}
		if told++; told <= most {
			fmt.Fprintf(a.stdout, "  %s: %s missing, %s different; the first: %s\n", s.Name, count(s.Missing), count(s.Different), s.First)
		}
	}
	if told > most {
		fmt.Fprintf(a.stdout, "  and %s more; --json has all\n", pluralSeries(told-most))
	}
}

func pluralSeries(n int) string { return count(int64(n)) + " series" }

func sumText(s transfer.Sum) string {
	return fmt.Sprintf("%15s  %016x", count(s.Records), s.Checksum)
}
