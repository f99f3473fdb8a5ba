package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/selection"
	"github.com/marketdatastore/mds/store"
)

func (a *app) deleteCommand() *cobra.Command {
	return a.perKind("delete", "Remove records", func(k kind) func(*app) *cobra.Command { return k.remove })
}

func deleteKind[R mds.Record[R]](a *app) *cobra.Command {
	schema := mds.SchemaOf[R]()
	f := newSelectionFlags[R]()
	var all, yes bool
	cmd := &cobra.Command{
		Use:     schema.Kind,
		Short:   "Remove " + schema.Kind,
		Long:    "Remove the " + schema.Kind + " that the flags pick. It says how many and asks, unless --yes is given.",
		Example: fmt.Sprintf("  mds delete %[1]s --symbol MSFT\n  mds delete %[1]s --vendor synthetic --yes", schema.Kind),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sel, err := f.selection(cmd)
			if err != nil {
				return err
			}
			if !selection.Narrow(sel) && !all {
				var flags []string
				for _, c := range selection.Columns(&schema) {
					flags = append(flags, "--"+flagOf(&schema, c))
				}
				return usagef("say which %s: give %s, --start or --end, or --all", schema.Kind, strings.Join(flags, ", "))
			}
			if selection.Narrow(sel) && all {
				return usagef("--all removes everything; leave it out to remove what the other flags pick")
			}
			if err := a.mustExist(cmd.Context()); err != nil {
				return err
			}
			return a.withStore(cmd.Context(), writing, func(s *session) error {
				return runDelete[R](cmd.Context(), a, s, sel, yes)
			})
		},
	}
	f.register(cmd, true, true)
	cmd.Flags().BoolVar(&all, "all", false, "remove all "+schema.Kind)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func runDelete[R mds.Record[R]](ctx context.Context, a *app, s *session, sel mds.Selection, yes bool) error {
	schema := mds.SchemaOf[R]()
	records := store.TableOf[R](s.Store)
	if !yes {
		n, err := records.Count(ctx, s.tenant, sel)
		if err != nil {
			return err
		}
		if n > 0 {
			if err := a.confirm(fmt.Sprintf("Remove %s of tenant %s?", plural(n, schema.Noun), s.tenant.Slug)); err != nil {
				return err
			}
		}
	}
	n, err := records.Delete(ctx, s.tenant, sel)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "%s removed\n", plural(n, schema.Noun))
	return nil
}

// confirm asks a question; any answer but yes is a refusal.
func (a *app) confirm(question string) error {
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	case "":
		if err != nil {
			fmt.Fprintln(a.stderr)
			return usagef("nothing removed: nobody answered; give --yes to remove without asking")
		}
	}
	return errors.New("nothing removed")
}
