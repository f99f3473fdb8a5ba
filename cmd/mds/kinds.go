package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/deadletter"
	"github.com/marketdatastore/mds/internal/replay"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
)

// kinds are the record kinds that the commands know. A kind is added here.
func kinds() []kind {
	return []kind{
		kindOf[mds.Bar](),
		kindOf[mds.OptionSnap](),
		kindOf[mds.Fundamentals](),
		kindOf[mds.News](),
		kindOf[mds.Rollup](),
	}
}

// servedKinds are the kinds of mds serve. Rollups are made, not taken in.
func servedKinds() []server.Kind {
	var list []server.Kind
	for _, k := range kinds() {
		list = append(list, k.serve)
	}
	return list
}

// kind is what the commands do with one kind of record.
type kind struct {
	name    string
	info    func(context.Context, *session) (mds.KindInfo, error)
	compact func(context.Context, *session) (mds.Compaction, error)
	copy    func(ctx context.Context, c *copying, sel mds.Selection, there bool) (copied, error)

	// letter tells of a dead letter's record what it is.
	letter func(*deadletter.Letter) string
	check  func(*deadletter.Letter) error // whether it could be replayed
	replay func(*store.Store, sink.Config) replay.Kind

	serve     server.Kind
	timeframe bool // it has timeframes

	// latest is nil for kinds without series in time, and tail for those that are made.
	ingest, query, latest, series, export, write, remove, tail func(*app) *cobra.Command
}

func kindOf[R mds.Record[R]]() kind {
	schema := mds.SchemaOf[R]()
	k := kind{
		name:  schema.Kind,
		serve: server.KindOf[R](),
		info: func(ctx context.Context, s *session) (mds.KindInfo, error) {
			return store.TableOf[R](s.Store).Info(ctx, s.tenant)
		},
		compact: compactKind[R],
		letter:  describeLetter[R],
		check:   replay.Check[R],
		replay: func(st *store.Store, cfg sink.Config) replay.Kind {
			return replay.KindOf(store.TableOf[R](st), cfg)
		},
		copy:   copyKind[R],
		ingest: ingestKind[R],
		query:  queryKind[R],
		latest: latestKind[R],
		series: seriesKind[R],
		export: exportKind[R],
		write:  writeKind[R],
		remove: deleteKind[R],
		tail:   tailKind[R],
	}
	k.timeframe = schema.Timeframe != nil
	if schema.TimeIsValue {
		k.latest = nil
	}
	if schema.Kind == "rollups" {
		k.serve, k.tail = server.ReadOnlyKindOf[R](), nil
	}
	return k
}

// perKind is a command with one of each kind below it.
func (a *app) perKind(use, short string, of func(kind) func(*app) *cobra.Command) *cobra.Command {
	var commands []*cobra.Command
	for _, k := range kinds() {
		if make := of(k); make != nil {
			commands = append(commands, make(a))
		}
	}
	return group(use, short, commands...)
}

// ofBars makes a command of a group: without a kind it is that of bars.
func ofBars(group *cobra.Command, use string) *cobra.Command {
	for _, c := range group.Commands() {
		if c.Name() == "bars" {
			bars := *c
			group.Args, group.RunE, group.Example = bars.Args, bars.RunE, strings.ReplaceAll(bars.Example, " bars", "")
			group.Flags().AddFlagSet(bars.Flags())
		}
	}
	group.Use = use
	group.FParseErrWhitelist.UnknownFlags = false
	return group
}

// flagOf is the flag of a column.
func flagOf[R any](schema *mds.Schema[R], c *mds.Column[R]) string {
	if c == schema.SymbolColumn() {
		return "symbol"
	}
	return strings.ReplaceAll(c.Name, "_", "-")
}

// and joins words: "a, b and c".
func and(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
