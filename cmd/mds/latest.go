package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/selection"
	"github.com/marketdatastore/mds/store"
)

func (a *app) latestCommand() *cobra.Command {
	all := a.perKind("latest", "Show the newest record of each series of some symbols", func(k kind) func(*app) *cobra.Command { return k.latest })
	return ofBars(all, "latest [KIND] SYMBOL…")
}

// latestArgs refuses a kind that has no latest record, which would be taken for
// a symbol.
func latestArgs(args []string) error {
	for _, k := range kinds() {
		if len(args) > 0 && args[0] == k.name && k.latest == nil {
			return usagef("%[1]s have no series of which one is the latest; see mds query %[1]s --order desc --limit 10", k.name)
		}
	}
	return nil
}

func latestKind[R mds.Record[R]](a *app) *cobra.Command {
	schema := mds.SchemaOf[R]()
	f := newSelectionFlags[R]()
	cmd := &cobra.Command{
		Use:     schema.Kind + " SYMBOL…",
		Short:   "Show the newest " + schema.Noun + " of each series of some symbols",
		Example: "  mds latest " + schema.Kind + " MSFT AAPL --vendor yahoo",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name the symbols; %s lists what there is", listing(schema.Kind))
			}
			return latestArgs(args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, err := f.selection(cmd)
			if err != nil {
				return err
			}
			for _, arg := range args {
				for symbol := range strings.SplitSeq(arg, ",") {
					if symbol = strings.TrimSpace(symbol); symbol == "" {
						return usagef("%q names an empty symbol", arg)
					}
					sel.Symbols = append(sel.Symbols, symbol)
				}
			}
			if sel, err = f.expand(sel); err != nil {
				return err
			}
			return a.withStore(cmd.Context(), reading, func(s *session) error {
				return runLatest[R](cmd.Context(), a, s, sel, f.format)
			})
		},
	}
	f.register(cmd, false, false)
	f.registerKnownAt(cmd)
	f.registerFormat(cmd)
	return cmd
}

func runLatest[R mds.Record[R]](ctx context.Context, a *app, s *session, sel mds.Selection, format string) error {
	schema := mds.SchemaOf[R]()
	records, err := store.TableOf[R](s.Store).Latest(ctx, s.tenant, sel)
	if err != nil {
		return err
	}
	found := func(yield func(R, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
	if _, err := writeRecords(a.stdout, format, found); err != nil {
		return err
	}
	var none []string
	for _, symbol := range sel.Symbols {
		symbol = mds.NormalizeSymbol(symbol)
		if !slices.ContainsFunc(records, func(r R) bool { return *schema.SymbolColumn().Text(&r) == symbol }) {
			none = append(none, symbol)
		}
	}
	if none != nil {
		what := schema.Kind
		for _, c := range slices.Backward(selection.Columns(&schema)) {
			if values := sel.Where[c.Name]; len(values) > 0 {
				what = strings.Join(values, "/") + " " + what
			}
		}
		return fmt.Errorf("no %s of %s; %s lists what there is", what, strings.Join(none, ", "), listing(schema.Kind))
	}
	return nil
}
