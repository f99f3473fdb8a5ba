package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/codec/arrow"
	"github.com/marketdatastore/mds/dlq"
	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/jobs"
	"github.com/marketdatastore/mds/internal/live"
	"github.com/marketdatastore/mds/internal/replay"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
)

// Kind is a kind of record that a server serves.
type Kind struct {
	name string
	open func(*Server) (*served, error)
}

// KindOf is a kind that is taken in and given out.
func KindOf[R mds.Record[R]]() Kind {
	return Kind{name: mds.SchemaOf[R]().Kind, open: func(s *Server) (*served, error) { return open[R](s, true) }}
}

// ReadOnlyKindOf is a kind that is given out alone.
func ReadOnlyKindOf[R mds.Record[R]]() Kind {
	return Kind{name: mds.SchemaOf[R]().Kind, open: func(s *Server) (*served, error) { return open[R](s, false) }}
}

// served is a kind that is being served. What is about taking in is nil for one that is
// not taken in.
type served struct {
	name    string
	stop    func(context.Context) error
	leave   func(context.Context, mds.Tenant) error
	ledgers func() []ingest.TenantLedger
	health  func() []ingest.Component
	bus     *feedback.Bus
	live    *livePicks

	compact  func(context.Context, mds.Tenant) (moved int64, err error)
	check    func(context.Context, *mds.Job) error // what a backfill is to do
	backfill func(context.Context, *jobs.Run) error
	letters  *replay.Kind // writes those of the kind

	checkExport func(context.Context, *mds.Job) error // what one is to do
	export      func(context.Context, *jobs.Run) error
}

// service serves a kind.
type service[R mds.Record[R]] struct {
	*Server
	schema      mds.Schema[R]
	table       store.Table[R]
	coordinator *ingest.Coordinator[R]
	size        func(*R) int
}

func open[R mds.Record[R]](s *Server, intake bool) (*served, error) {
	k := &service[R]{Server: s, schema: mds.SchemaOf[R](), table: store.TableOf[R](s.cfg.Store)}
	k.size = k.schema.Sizer()
	out := &served{name: k.schema.Kind, compact: k.compact, export: k.export}
	out.checkExport = func(_ context.Context, job *mds.Job) error {
		_, _, err := k.exporting(job)
		return err
	}
	if intake {
		cfg := configOf[R](&s.cfg.Ingest)
		if s.cfg.Letters != nil {
			cfg.DeadLetters = dlq.For[R](s.cfg.Letters, s.schemaVersion)
		}
		feed := live.NewFeed[R](s.live)
		cfg.Committed, out.live = feed.Publish, k.livePicks(feed)
		// The work of a sink is its coordinator's: what is left of it are its metrics.
		into := sink.Config{WriteTimeout: cmp.Or(cfg.WriteTimeout, 35*time.Second), Metrics: s.sinks}
		letters := replay.KindOf(k.table, into)
		out.letters = &letters
		writer := sink.New(k.table, into)
		c, err := ingest.New(s.background, writer, cfg)
		if err != nil {
			return nil, err
		}
		k.coordinator = c
		s.metrics.late.WithLabelValues(k.schema.Kind) // at 0 from the start
		out.stop, out.leave, out.ledgers, out.health, out.bus = c.Stop, c.Leave, c.Ledgers, c.Health, c.Feedback()
		out.backfill = k.fill
		out.check = func(ctx context.Context, job *mds.Job) error {
			_, _, _, err := k.prepare(ctx, job)
			return err
		}
		s.handle(k.ingestOperation())
		s.handle(k.deleteOperation())
	}
	s.handle(k.queryOperation())
	s.handle(k.seriesOperation())
	s.handle(k.countOperation())
	s.handle(k.infoOperation())
	if !k.schema.TimeIsValue {
		s.handle(k.latestOperation())
	}
	return out, nil
}

// configOf is the configuration of one kind's coordinator.
func configOf[R any](all *ingest.Config[any]) ingest.Config[R] {
	return ingest.Config[R]{
		Capacity: all.Capacity, CapacityBytes: all.CapacityBytes, Overflow: ingest.Block, Workers: all.Workers, Lanes: all.Lanes,
		BatchSize: all.BatchSize, BatchMax: all.BatchMax, BatchBytes: all.BatchBytes, FlushInterval: all.FlushInterval,
		WriteTimeout: all.WriteTimeout, Retry: all.Retry, Circuit: all.Circuit, Watermarks: all.Watermarks, Rate: all.Rate,
		Metrics: all.Metrics, FeedbackMetrics: all.FeedbackMetrics, Logger: all.Logger,
	}
}

// fixable are the columns that one value may be given of for a whole body.
func fixable[R any](schema *mds.Schema[R]) []*mds.Column[R] {
	columns := schema.ByRole(mds.Identity, mds.Key, mds.Revision)
	if schema.Dated() || schema.TimeIsValue {
		return columns
	}
	return append(columns, schema.TimeColumn())
}

func (k *service[R]) ingestOperation() operation {
	o := operation{
		method: http.MethodPost, path: "/v1/" + k.schema.Kind, id: "ingest-" + k.schema.Kind, tag: k.schema.Kind, scope: mds.ScopeWrite,
		summary: "Take in " + k.schema.Kind,
		description: "Takes in a body of any length, and answers when its records are on the store's disk, or with ack=accepted when they are queued. " +
			"Records replace those with the same key; the same ones sent again change nothing. " +
			"Rows that are no records are listed in the answer; the others are stored. " +
			"While the queue is full the answer is 429 before anything is read; later the body is read more slowly.",
		params: []param{
			choice("ack", "When to answer: once the records are on the store's disk, or once they are queued in memory", "committed", "accepted"),
			number("max_errors", "How many rejected rows, and refused records, to list", 0, client.MaxListed),
			text("tz", "The time zone of times without an offset, such as America/New_York"),
			choice("no_header", "Whether the first line of CSV is data: columns then maps each by its number, such as ts=#1", "false", "true"),
			text("columns", "A column and the name it has in the body, such as close=Adj Close").several(),
			text("late", "The records come late, and were submitted at this time: stored ones that changed then or after it stay"),
			idempotencyParam(),
		},
		body:      k.recordsBody(),
		responses: k.ingestResponses(),
		enter:     k.enter,
		serve:     k.ingest,
	}
	if k.schema.Timeframe != nil {
		o.params = append(o.params, choice("label", "Which end of a bar its time names", "start", "end"))
	}
	for _, c := range fixable(&k.schema) {
		o.params = append(o.params, text(c.Name, c.Doc+"; of every record, where the body does not say it"))
	}
	return o
}

const (
	// usualErrors is how many errors and refused records are listed.
	usualErrors = 100

	// mostListed bounds what is listed in bytes, roughly.
	mostListed = 4 << 20
)

// ingest takes in a body, or answers as it was answered before.
func (k *service[R]) ingest(c *call) (err error) {
	if c.again, err = c.keyed(); err != nil {
		return err
	}
	if err := refuseAccepted(c); err != nil {
		return err
	}
	if c.again != nil {
		if known, err := k.known(c); known || err != nil {
			return err
		}
	}
	return k.takeIn(c)
}

// takeIn takes in a body.
func (k *service[R]) takeIn(c *call) error {
	if err := k.pressed(); err != nil {
		return err
	}
	format, err := c.format()
	if err != nil {
		return err
	}
	opt, err := options(c, &k.schema)
	if err != nil {
		return err
	}
	defer noticing(c)()
	if most := k.cfg.MaxBodyBytes; most > 0 && c.r.ContentLength > most {
		return tooLarge(most)
	}
	most, err := c.integer("max_errors", usualErrors, 0, client.MaxListed)
	if err != nil {
		return err
	}
	ctx, cancel := until(c.Context(), k.ended)
	defer cancel()
	in := &intake[R]{reading: ctx, handle: k.coordinator.For(c.tenant), size: k.size, schema: &k.schema, most: most, answer: client.Answer{Kind: k.schema.Kind}}
	if err := k.tenants.since(c.moment, c.tenant); err != nil { // the handle may be another one's
		return err
	}
	in.room = mostListed
	if c.again != nil {
		in.room = mds.MaxKeptBody / 8 // in JSON they may be six times as long
	}
	in.portion = min(handOverBatch, k.coordinator.Stats().Capacity)
	if in.late, err = k.late(c, in.handle, opt.Zone); err != nil {
		return err
	}
	if rate := k.rate(c.tenant); rate > 0 { // a second's worth at a time
		in.portion = min(in.portion, max(1, int64(rate)))
	}
	return k.end(c, in, k.read(c, in, format, opt))
}

// end answers with what became of a body, of which reading failed, or did not.
func (k *service[R]) end(c *call, in *intake[R], err error) error {
	status := http.StatusAccepted
	if c.value("ack") != "accepted" {
		status = http.StatusOK
		if settleErr := k.settle(c, in, err); err == nil {
			err = settleErr
		}
	}
	if err == nil && c.again == nil {
		return c.json(status, in.result())
	}
	if err == nil {
		var refused *problem
		if err = k.keep(c, in.result()); !errors.As(err, &refused) {
			return err
		}
	}
	p := *problemOf(err)
	if ledger := in.result(); ledger.Read > 0 {
		p.ledger = ledger
	}
	return &p
}

// late writes the records of a request that come late; nil where they do not.
func (k *service[R]) late(c *call, h *ingest.Handle[R], zone *time.Location) (func(context.Context, []R) (mds.Receipt, error), error) {
	text := c.value("late")
	if text == "" {
		return nil, nil //nolint:nilnil // nil is what it is
	}
	as, err := codec.ParseTime(text, cmp.Or(zone, time.UTC))
	switch {
	case err != nil:
		return nil, badRequest("bad_parameter", "late: "+err.Error())
	case c.value("ack") == "accepted":
		return nil, badRequest("bad_parameter", "what comes late is written at once: leave ack=accepted out")
	}
	return func(ctx context.Context, records []R) (mds.Receipt, error) {
		if err := h.Pay(ctx, len(records)); err != nil {
			return mds.Receipt{}, err
		}
		ctx, cancel := context.WithTimeout(ctx, k.cfg.CommitTimeout)
		defer cancel()
		receipt, err := k.table.WriteLate(ctx, c.tenant, records, as)
		if err == nil {
			k.metrics.late.WithLabelValues(k.schema.Kind).Add(float64(len(records)))
		}
		return receipt, err
	}, nil
}

// read reads a body.
func (k *service[R]) read(c *call, in *intake[R], format codec.Format, opt codec.Options) error {
	need := c.memory(format)
	if k.rate(c.tenant) > 0 {
		if !k.bodyMemory.take(c.tenant.ID, need) {
			return tooMany(c.tenant)
		}
		defer k.bodyMemory.give(c.tenant.ID, need)
	}
	patience, cancel := context.WithTimeout(in.reading, memoryPatience)
	defer cancel()
	if err := k.memory.Acquire(patience, need); err != nil {
		switch {
		case stopped(in.reading):
			return ingest.ErrStopped
		case in.reading.Err() != nil:
			return in.reading.Err()
		}
		return &problem{status: http.StatusTooManyRequests, code: "too_many_requests", retry: time.Second, detail: "the bodies under way take all the memory that there is for them; come back a little later"}
	}
	defer k.memory.Release(need)
	before := in.flush
	if in.late != nil {
		before = func() error { return nil } // a transaction takes its time
	}
	raw := c.raw(in.reading, format, k.cfg.IdleTimeout, k.cfg.MaxBodyBytes, before)
	body, err := c.unpack(raw)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // it was read, or has failed
	if format == formatArrow {
		err = in.runArrow(body, arrow.Options{Options: opt, MaxBytes: min(c.memory(format), mostArrow)})
	} else {
		err = in.runRows(body, format, opt)
	}
	if err == nil && c.again != nil {
		_, err = io.Copy(io.Discard, raw) // for the digest of all of it
	}
	if err != nil && errors.Is(err, context.Canceled) && stopped(in.reading) {
		return ingest.ErrStopped // intake has ended, not the client
	}
	return err
}

// settle waits for what was taken in, unless reading has failed because the client has gone.
func (k *service[R]) settle(c *call, in *intake[R], failed error) error {
	there := c.Context()
	if errors.Is(failed, errBody) || errors.Is(failed, ingest.ErrStopped) {
		there = context.WithoutCancel(there) // which ends with the body, also where it may be answered
	}
	ctx, cancel := context.WithTimeout(there, k.cfg.CommitTimeout)
	defer cancel()
	err := in.settle(ctx)
	switch {
	case err != nil && there.Err() == nil:
		return &problem{
			status: http.StatusServiceUnavailable, code: "not_committed", retry: k.cfg.CommitTimeout, err: err,
			detail: fmt.Sprintf("the records are queued, and not on the store's disk after %s; they will be written when the store is well, and the same ones sent again change nothing", k.cfg.CommitTimeout),
		}
	case err != nil:
		return err
	case in.answer.Unwritten > 0:
		return ingest.ErrUnwritten
	}
	return nil
}

// pressed refuses more while the queue is as good as full.
func (k *service[R]) pressed() error {
	if k.draining() {
		return ingest.ErrStopped
	}
	e, ok := k.coordinator.Feedback().Last()
	if !ok || e.Level != feedback.Hard {
		return nil
	}
	return &problem{
		status: http.StatusTooManyRequests, code: "queue_full", retry: max(time.Second, e.RetryAfter()), feedback: &e,
		detail: fmt.Sprintf("the queue of %s is full: nothing of this was read; send it again later, and less at a time", k.schema.Kind),
	}
}
