package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/deadletter"
)

// dlqFlags pick dead letters.
type dlqFlags struct {
	dir              string
	allTenants       bool
	kind, code       string
	vendors, symbols []string
	since, until, tz string
	atServer         bool
}

func (a *app) dlqCommand() *cobra.Command {
	f := &dlqFlags{}
	cmd := group("dlq", "Look at dead letters, replay or discard them",
		a.dlqListCommand(f), a.dlqShowCommand(f), a.dlqReplayCommand(f), a.dlqDiscardCommand(f), a.dlqExportCommand(f))
	cmd.Long = `Look at dead letters, replay or discard them: records that were accepted and that
no store takes, each with the reason. They are those of one tenant unless --all-tenants
is given, and are kept until they are replayed or discarded.`
	flags := cmd.PersistentFlags()
	addSetting(flags, "dlq.dir", &f.dir)
	flags.BoolVar(&f.allTenants, "all-tenants", false, "those of each tenant, rather than of --tenant")
	return cmd
}

// register adds the flags that pick letters.
func (f *dlqFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.kind, "kind", "", "only of this kind: "+kindNames())
	flags.StringVar(&f.code, "code", "", "only with this code: invalid, refused, panic, exhausted")
	flags.StringSliceVar(&f.vendors, "vendor", nil, "only of these vendors, separated by commas")
	flags.StringSliceVar(&f.symbols, "symbol", nil, "only of these symbols, separated by commas")
	flags.StringVar(&f.since, "since", "", "only those that died at this time or after it, such as 2026-11-26 or 2026-11-26T08:30:00Z")
	flags.StringVar(&f.until, "until", "", "only those that died before this time")
	flags.StringVar(&f.tz, "tz", "UTC", "the time zone of times given without an offset")
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	offer(cmd, "kind", names...)
	offer(cmd, "code", "invalid", "refused", "panic", "exhausted")
}

// kindNames are the kinds, as a choice.
func kindNames() string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return strings.Replace(and(names), " and ", " or ", 1)
}

func kindNamed(name string) (kind, bool) {
	all := kinds()
	at := slices.IndexFunc(all, func(k kind) bool { return k.name == name })
	if at < 0 {
		return kind{}, false
	}
	return all[at], true
}

// filter turns the flags and the ids that are given into a filter.
func (a *app) letterFilter(cmd *cobra.Command, f *dlqFlags, ids []string) (filter deadletter.Filter, err error) {
	if err := noEmptyFlags(cmd); err != nil {
		return filter, err
	}
	if f.allTenants && cmd.Flags().Changed("tenant") {
		return filter, usagef("--all-tenants takes each tenant, and --tenant names one: give one of them")
	}
	if f.atServer && (f.allTenants || cmd.Flags().Changed("dlq-dir")) {
		return filter, usagef("--at-server means what a server keeps of one tenant: give it without --all-tenants and --dlq-dir")
	}
	if _, known := kindNamed(f.kind); f.kind != "" && !known {
		return filter, usagef("--kind %q: use %s", f.kind, kindNames())
	}
	for _, id := range ids {
		if !deadletter.IsID(id) {
			return filter, usagef("%q is no letter's id; one is like 20261126T084200.123456Z-1a2b.7, and mds dlq list shows them", id)
		}
	}
	codes := []string{ingest.CodeInvalid, ingest.CodeRefused, ingest.CodePanic, ingest.CodeExhausted}
	if f.code != "" && !slices.Contains(codes, f.code) {
		return filter, usagef("--code %q: use %s", f.code, strings.Replace(and(codes), " and ", " or ", 1))
	}
	filter = deadletter.Filter{IDs: slices.Compact(slices.Sorted(slices.Values(ids)))}
	if f.kind != "" {
		filter.Kinds = []string{f.kind}
	}
	if f.code != "" {
		filter.Codes = []string{f.code}
	}
	if !f.allTenants {
		if filter.Tenant, err = a.letterTenant(cmd.Context()); err != nil {
			return filter, err
		}
	}
	if filter.Vendors, err = cleanList("vendor", f.vendors); err != nil {
		return filter, err
	}
	if filter.Symbols, err = cleanList("symbol", f.symbols); err != nil {
		return filter, err
	}
	zone := time.UTC
	if f.tz != "" {
		if zone, err = loadZone(f.tz); err != nil {
			return filter, err
		}
	}
	for _, bound := range []struct {
		flag, text string
		target     *time.Time
	}{{"--since", f.since, &filter.DiedFrom}, {"--until", f.until, &filter.DiedBefore}} {
		if bound.text == "" {
			continue
		}
		if *bound.target, err = codec.ParseTime(bound.text, zone); err != nil {
			return filter, usagef("%s: %w", bound.flag, err)
		}
	}
	if f.since != "" && f.until != "" && !filter.DiedFrom.Before(filter.DiedBefore) {
		return filter, usagef("--since %s is not before --until %s", f.since, f.until)
	}
	return filter, nil
}

// readLetters reads letters and warns of what is damaged among them.
func (a *app) readLetters(ctx context.Context, dir deadletter.Dir, filter deadletter.Filter) iter.Seq2[deadletter.Letter, error] {
	return func(yield func(deadletter.Letter, error) bool) {
		for letter, err := range dir.Letters(ctx, filter) {
			var damaged *deadletter.DamagedError
			if errors.As(err, &damaged) {
				fmt.Fprintf(a.stderr, "warning: %v\n", err)
				continue
			}
			if !yield(letter, err) {
				return
			}
		}
	}
}

// warnOfQuarantine tells of files that were found damaged.
func (a *app) warnOfQuarantine(dir deadletter.Dir) error {
	paths, err := dir.Quarantined()
	if err != nil || len(paths) == 0 {
		return err
	}
	fmt.Fprintf(a.stderr, "warning: %s damaged and put aside; letters may be missing. Look at them, then remove them: %s\n",
		verb(len(paths), "file was", "files were"), strings.Join(paths, ", "))
	return nil
}

func verb(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(int64(n)) + " " + many
}

func (a *app) dlqListCommand(f *dlqFlags) *cobra.Command {
	limit := tableLimit
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, in order of arrival",
		Long: `List dead letters, in order of arrival, and sum them up. For other programs there is
mds dlq export -.`,
		Example: "  mds dlq list --kind bars --code invalid\n  mds dlq list --all-tenants --since 2026-11-26 --limit 0",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := a.letterFilter(cmd, f, nil)
			if err != nil {
				return err
			}
			if limit < 0 {
				return usagef("--limit %d: use 0 for all, or more", limit)
			}
			if f.atServer {
				return a.listLettersThere(cmd, filter, limit)
			}
			dir, err := a.deadLetters(f.dir)
			if err != nil {
				return err
			}
			return a.listLetters(cmd.Context(), dir, filter, limit)
		},
	}
	f.register(cmd)
	f.registerServer(cmd)
	cmd.Flags().IntVar(&limit, "limit", tableLimit, "the most letters to list, 0 for all; they are summed up in any case")
	return cmd
}

func (a *app) listLetters(ctx context.Context, dir deadletter.Dir, filter deadletter.Filter, limit int) error {
	counts, err := a.tableOfLetters(a.readLetters(ctx, dir, filter), filter.Tenant != "", limit)
	if err != nil {
		return err
	}
	return a.sumUp(dir, filter, counts)
}

// tableOfLetters prints so many letters, 0 for all, which are of one tenant or of each, and
// counts all by kind and code.
func (a *app) tableOfLetters(letters iter.Seq2[deadletter.Letter, error], ofOne bool, limit int) (map[string]map[string]int64, error) {
	newTable := func() *table {
		return &table{
			header: []string{"id", "kind", "tenant", "record", "submitted (UTC)", "died (UTC)", "attempts", "code", "reason"},
			right:  []bool{false, false, false, false, false, false, true, false, false},
		}
	}
	part := newTable()
	counts := make(map[string]map[string]int64)
	total := 0
	for letter, err := range letters {
		if err != nil {
			return nil, err
		}
		total++
		if counts[letter.Kind] == nil {
			counts[letter.Kind] = make(map[string]int64)
		}
		counts[letter.Kind][letter.Code]++
		if limit > 0 && total > limit {
			continue
		}
		tenant := "" // where there is but one, it is left out
		if !ofOne {
			tenant = letter.Tenant.Slug
		}
		part.add(letter.ID, oneLine(letter.Kind), oneLine(tenant), whatDied(&letter), displayTime(letter.Submitted, false),
			displayTime(letter.Died, false), strconv.Itoa(letter.Attempts), oneLine(letter.Code), oneLine(letter.Reason))
		if len(part.rows) == tableRows {
			if err := part.write(a.stdout); err != nil {
				return nil, err
			}
			part = newTable()
		}
	}
	if err := part.write(a.stdout); err != nil {
		return nil, err
	}
	if limit > 0 && total > limit {
		fmt.Fprintf(a.stderr, "%s of %s letters; --limit 0 gives all\n", count(int64(limit)), count(int64(total)))
	}
	return counts, nil
}

// whatDied tells what a letter's record is, as far as this program knows its kind.
func whatDied(letter *deadletter.Letter) string {
	if k, known := kindNamed(letter.Kind); known {
		return k.letter(letter)
	}
	return oneLine(strings.Join(append(letter.Texts("vendor"), letter.Texts("symbol")...), " "))
}

// describeLetter is what identifies a record.
func describeLetter[R mds.Record[R]](letter *deadletter.Letter) string {
	record, err := deadletter.Decode[R](letter.Record)
	if err != nil {
		return ""
	}
	schema := mds.SchemaOf[R]()
	var parts []string
	for _, c := range schema.ByRole(mds.Identity, mds.Key, mds.Time) {
		if text := oneLine(string(c.AppendText(nil, &record))); text != "" {
			parts = append(parts, text)
		}
	}
	return strings.ToValidUTF8(strings.Join(parts, " "), "\ufffd")
}

// countsText says how many letters there are of each kind and code; "" is none.
func countsText(counts map[string]map[string]int64) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		for _, code := range slices.Sorted(maps.Keys(counts[k])) {
			parts = append(parts, fmt.Sprintf("%s %s %s", count(counts[k][code]), oneLine(k), oneLine(code)))
		}
	}
	return strings.Join(parts, ", ")
}

// sumUp prints how many letters there are of each kind and code, and how much room
// they take.
func (a *app) sumUp(dir deadletter.Dir, filter deadletter.Filter, counts map[string]map[string]int64) error {
	parts := countsText(counts)
	bytes, err := dir.Bytes()
	if err != nil {
		return err
	}
	switch {
	case parts != "":
		fmt.Fprintf(a.stderr, "%s; %s of at most %s are taken in %s\n", parts, size(bytes), size(cmp.Or(a.settings.DLQ.MaxBytes, deadletter.DefaultMaxBytes)), dir.Path)
	case filter.Tenant == "":
		fmt.Fprintf(a.stderr, "no dead letters in %s match\n", dir.Path)
	default:
		fmt.Fprintf(a.stderr, "no dead letters of tenant %s in %s match\n", filter.Tenant, dir.Path)
	}
	return a.warnOfQuarantine(dir)
}

func (a *app) dlqShowCommand(f *dlqFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID…",
		Short: "Show all of a dead letter, its record column by column",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s: name the letters by their ids; mds dlq list shows them", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := a.letterFilter(cmd, f, args)
			if err != nil {
				return err
			}
			if f.atServer {
				return a.showLettersThere(cmd, filter, args)
			}
			dir, err := a.deadLetters(f.dir)
			if err != nil {
				return err
			}
			missing, err := a.showLetters(a.readLetters(cmd.Context(), dir, filter), args)
			if err != nil {
				return err
			}
			return errors.Join(a.warnOfQuarantine(dir), noSuchLetters(missing, filter, dir.Path))
		},
	}
	f.registerServer(cmd)
	return cmd
}

// showLetters shows letters, and returns the ids of those that are not among them.
func (a *app) showLetters(letters iter.Seq2[deadletter.Letter, error], ids []string) (missing []string, err error) {
	missing = slices.Clone(ids)
	for letter, err := range letters {
		if err != nil {
			return nil, err
		}
		if err := a.showLetter(&letter); err != nil {
			return nil, err
		}
		missing = slices.DeleteFunc(missing, func(id string) bool { return id == letter.ID })
	}
	return missing, nil
}

func noSuchLetters(missing []string, filter deadletter.Filter, where string) error {
	if len(missing) == 0 {
		return nil
	}
	of := ""
	if filter.Tenant != "" {
		of = " of tenant " + filter.Tenant
	}
	return fmt.Errorf("there is no letter %s%s in %s; mds dlq list shows those that are", and(missing), of, where)
}

func (a *app) showLetter(l *deadletter.Letter) error {
	version := strconv.Itoa(l.SchemaVersion)
	if l.SchemaVersion == 0 {
		version = "not known"
	}
	for _, line := range [][2]string{
		{"id", l.ID},
		{"kind", l.Kind},
		{"tenant", l.Tenant.Slug + " " + l.Tenant.ID},
		{"submitted", l.Submitted.UTC().Format(time.RFC3339Nano)},
		{"died", l.Died.UTC().Format(time.RFC3339Nano)},
		{"attempts", strconv.Itoa(l.Attempts)},
		{"code", l.Code},
		{"reason", l.Reason},
		{"schema version", version},
	} {
		fmt.Fprintf(a.stdout, "%-15s %s\n", line[0], strings.ToValidUTF8(line[1], "\ufffd"))
	}
	fmt.Fprintln(a.stdout, "record")
	decoder := json.NewDecoder(bytes.NewReader(l.Record))
	if _, err := decoder.Token(); err != nil {
		return err
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "  %-20v %s\n", name, value)
	}
	fmt.Fprintln(a.stdout)
	return nil
}

func (a *app) dlqDiscardCommand(f *dlqFlags) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "discard [ID…]",
		Short:   "Remove dead letters for good",
		Long:    "Remove the dead letters that the ids or the flags pick, for good, without asking; all of them with --yes.",
		Example: "  mds dlq discard 20261126T084200.123456Z-1a2b.7\n  mds dlq discard --code invalid --until 2026-11-01\n  mds dlq discard --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := a.letterFilter(cmd, f, args)
			if err != nil {
				return err
			}
			whole := filter
			whole.Tenant = ""
			if whole.All() && !yes {
				return usagef("say which letters: give ids, --kind, --code, --vendor, --symbol, --since or --until, or --yes for all")
			}
			if f.atServer {
				return a.discardLettersThere(cmd, filter)
			}
			dir, err := a.deadLetters(f.dir)
			if err != nil {
				return err
			}
			return a.discardLetters(cmd.Context(), dir, filter)
		},
	}
	f.register(cmd)
	f.registerServer(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "remove all, where nothing picks some")
	return cmd
}

// removedAtOnce bounds the ids that are held.
const removedAtOnce = 5000

func (a *app) discardLetters(ctx context.Context, dir deadletter.Dir, filter deadletter.Filter) error {
	if err := dir.Repair(ctx); err != nil {
		return err
	}
	var ids []string
	total, listed := 0, 0
	remove := func() error {
		n, err := dir.Remove(ctx, ids)
		total += n
		ids = ids[:0]
		return err
	}
	err := func() error {
		for letter, err := range a.readLetters(ctx, dir, filter) {
			if err != nil {
				return err
			}
			listed++
			if ids = append(ids, letter.ID); len(ids) == removedAtOnce {
				if err := remove(); err != nil {
					return err
				}
			}
		}
		return remove()
	}()
	fmt.Fprintf(a.stdout, "%s discarded\n", plural(int64(total), "letter"))
	if err != nil {
		return err
	}
	if missing := len(filter.IDs) - listed; missing > 0 {
		fmt.Fprintf(a.stderr, "%s not there\n", verb(missing, "letter was", "letters were"))
	}
	return a.warnOfQuarantine(dir)
}
