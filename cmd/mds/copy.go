package main

import (
	"cmp"
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
	"github.com/marketdatastore/mds/store/remote"
)

// errIncomplete ends a copy that did not bring all over, which it has told already.
var errIncomplete = errors.New("not all of it is there as it is")

// copyFlags are what is copied.
type copyFlags struct {
	kinds, vendors, symbols []string
	timeframes              []string
	start, end, tz          string
	compare, allTenants     bool
	perSeries, json         bool
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

Passwords may be left out of the DSNs: they are taken from PGPASSWORD or ~/.pgpass. The
API key of a server is in MDS_API_KEY; where no tenant is named, FROM a server it is the key's.`,
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
			if cmd.Flags().Changed("dsn") || cmd.Flags().Changed("server") {
				return usagef("mds copy takes its stores as arguments, FROM and TO: a server is https://HOST there")
			}
			if err := noEmptyFlags(cmd); err != nil {
				return err
			}
			return a.copy(cmd.Context(), cmd, args[0], args[1], &f)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.kinds, "kind", nil, "only these kinds, separated by commas")
	flags.StringSliceVar(&f.vendors, "vendor", nil, "only these vendors, separated by commas")
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
	if sel.Symbols, err = cleanList("symbol", f.symbols); err != nil {
		return sel, false, err
	}
	sel.Where = make(map[string][]string)
	vendors, err := cleanList("vendor", f.vendors)
	if err != nil {
		return sel, false, err
	}
	for _, vendor := range vendors {
		sel.Where["vendor"] = append(sel.Where["vendor"], mds.NormalizeVendor(vendor))
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
		sel.Where["timeframe"] = frames
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
	for i, dsn := range []string{from, to} {
		if !strings.Contains(dsn, "://") {
			return usagef("%s is no DSN: write %s", []string{"FROM", "TO"}[i], store.Forms)
		}
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
	key, err := a.copyKey(from, to)
	if err != nil {
		return err
	}
	source, err := a.openDSN(ctx, from, key, reading)
	if err != nil {
		return sideError("from", from, err)
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	access := loading
	if f.compare {
		access = reading
	}
	target, err := a.openDSN(ctx, to, key, access)
	if err != nil {
		return sideError("to", to, err)
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	if same, err := sameStore(ctx, source, target); err != nil || same {
		return cmp.Or(err, usagef("FROM and TO are the same store"))
	}
	tenants := []mds.Tenant{{}}
	if f.allTenants {
		tenants, err = source.Tenants(ctx)
	} else {
		tenants[0], err = source.Tenant(ctx, a.copiedTenant(from))
	}
	if err != nil {
		return sideError("from", from, err)
	}
	c := &copying{app: a, flags: f, source: source, target: target, complete: true, done: []copied{}}
	for _, tenant := range tenants {
		for _, k := range kinds() {
			if sel, ok := selections[k.name]; ok && err == nil {
				err = c.kind(ctx, tenant, k, sel)
			}
		}
	}
	if f.json {
		err = errors.Join(err, writeJSON(a.stdout, c.done))
	}
	switch {
	case err != nil:
		return err
	case c.records == 0 && f.allTenants:
		return fmt.Errorf("%s has nothing of what is picked", source.dsn)
	case c.records == 0:
		return fmt.Errorf("%s has nothing of what is picked for the tenant %s; --all-tenants takes each", source.dsn, tenants[0].Slug)
	case !c.complete:
		return errIncomplete
	case !f.json:
		fmt.Fprintf(a.stdout, "every record of %s is in %s as it is\n", source.dsn, target.dsn)
	}
	return nil
}

// copying is a run of the command.
type copying struct {
	app            *app
	flags          *copyFlags
	source, target *session
	done           []copied
	complete       bool
	records        int64 // that FROM has
}

// kind copies one kind of a tenant, and says what became of it.
func (c *copying) kind(ctx context.Context, tenant mds.Tenant, k kind, sel mds.Selection) error {
	there, err := c.have(ctx, tenant)
	if err != nil {
		return sideError("to", c.target.dsn, err)
	}
	c.source.tenant, c.target.tenant = tenant, tenant
	done, err := k.copy(ctx, c, sel, there)
	switch {
	case err != nil && ctx.Err() != nil && c.flags.compare:
		return errors.New("interrupted")
	case err != nil && ctx.Err() != nil:
		return errors.New("interrupted: what was copied is there; run the same command again for the rest")
	case errors.Is(err, mds.ErrNoStore) && c.flags.allTenants: // a tenant that has nothing yet
		return nil
	case err != nil:
		again := ""
		if mds.Retryable(err) && !strings.Contains(err.Error(), "run it again") {
			again = "; run the same command again: what was copied is there"
		}
		return fmt.Errorf("%s of the tenant %s: %s%s", k.name, tenant.Slug, plainly(err), again)
	}
	c.complete = c.complete && done.Complete
	c.records += done.From.Records
	if done.From.Records == 0 && done.Others == 0 {
		return nil // there is nothing to tell
	}
	if c.done = append(c.done, done); !c.flags.json {
		c.app.printCopied(done, len(c.done) == 1, c.flags)
	}
	return nil
}

// have makes a tenant in TO where there is none, and reports whether there is one.
func (c *copying) have(ctx context.Context, tenant mds.Tenant) (bool, error) {
	_, err := c.target.Tenant(ctx, tenant.Slug)
	if err == nil && c.flags.compare { // which makes no file for it
		err = c.target.Ping(ctx, tenant)
	}
	unknown := errors.Is(err, mds.ErrUnknownTenant) || errors.Is(err, mds.ErrNoStore)
	switch {
	case err == nil:
		return true, nil
	case unknown && remote.IsDSN(c.target.dsn) && (!c.flags.compare || c.app.settings.Store.APIKey != ""):
		return false, c.missingOnServer(ctx, tenant)
	case unknown && c.flags.compare:
		return false, nil
	case unknown:
		if _, err = c.target.CreateTenant(ctx, tenant.Slug); errors.Is(err, mds.ErrTenantExists) { // another one made it
			err = nil
		}
	}
	return err == nil, err
}

// sameStore reports that two DSNs name one store.
func sameStore(ctx context.Context, a, b *session) (bool, error) {
	type identified interface {
		Identity(ctx context.Context) (string, error)
	}
	one, ok1 := a.Backend.(identified)
	other, ok2 := b.Backend.(identified)
	if !ok1 || !ok2 {
		return false, nil
	}
	id, err1 := one.Identity(ctx)
	otherID, err2 := other.Identity(ctx)
	return id == otherID, errors.Join(err1, err2)
}

// sideError is an error of one of the stores.
func sideError(side, dsn string, err error) error {
	if text := plainly(err); !errors.Is(err, store.ErrDSN) && !errors.Is(err, store.ErrWriteMode) {
		return fmt.Errorf("%s %s: %s", side, store.Redact(dsn), text)
	}
	return fmt.Errorf("%s %s: %w", side, store.Redact(dsn), err)
}

// plainly is an error without the advice to name the store by a flag, which is not that of
// this command.
func plainly(err error) string {
	return strings.NewReplacer(" with --dsn duckdb://DIR", "", "; name another", "").Replace(err.Error())
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

// copyKind copies a kind of a tenant, which TO may not have where it is only compared.
func copyKind[R mds.Record[R]](ctx context.Context, c *copying, sel mds.Selection, there bool) (copied, error) {
	a, f, from, to := c.app, c.flags, c.source, c.target
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
	if !there {
		cfg.To = transfer.Nothing[R]{}
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
	verdict := verdictOf(c.missing, c.different, c.More)
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
	if f.perSeries {
		fmt.Fprintf(a.stdout, "  %-33s  %-33s  %-12s  %s\n", "FROM: records, checksum", "TO: records, checksum", "verdict", "series")
	}
	for i := range c.Series {
		s := &c.Series[i]
		if f.perSeries {
			fmt.Fprintf(a.stdout, "  %s  %s  %-12s  %s\n", sumText(s.From), sumText(s.To), verdictOf(s.Missing, s.Different, s.More), s.Name)
		}
		if s.Missing+s.Different == 0 {
			continue
		}
		if told++; told <= most || f.perSeries {
			fmt.Fprintf(a.stdout, "  %s: %s missing, %s different; the first: %s\n", s.Name, count(s.Missing), count(s.Different), s.First)
		}
	}
	if told > most && !f.perSeries {
		fmt.Fprintf(a.stdout, "  and %s more; --series has all\n", pluralSeries(told-most))
	}
}

// verdictOf says what differs.
func verdictOf(missing, different, more int64) string {
	var parts []string
	for _, p := range []struct {
		n    int64
		what string
	}{{missing, "missing"}, {different, "different"}, {more, "more in TO"}} {
		if p.n > 0 {
			parts = append(parts, count(p.n)+" "+p.what)
		}
	}
	if parts == nil {
		return "identical"
	}
	return strings.Join(parts, ", ")
}

func pluralSeries(n int) string { return count(int64(n)) + " series" }

func sumText(s transfer.Sum) string {
	return fmt.Sprintf("%15s  %016x", count(s.Records), s.Checksum)
}
