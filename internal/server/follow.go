package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/negotiation"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/live"
)

// typeEvents is the media type of server-sent events.
const typeEvents = "text/event-stream"

// livePicks is how records of a kind are picked from the live stream.
type livePicks struct {
	params []param // by the kind's columns
	pick   func(*call) (live.Pick, error)
}

func (k *service[R]) livePicks(feed *live.Feed[R]) *livePicks {
	return &livePicks{params: k.columnParams(), pick: func(c *call) (live.Pick, error) {
		sel, err := k.selection(c)
		if err != nil {
			return live.Pick{}, err
		}
		conditions, err := k.schema.Conditions(sel)
		return feed.Pick(conditions), err
	}}
}

// followOperation is the live stream of committed records, of all kinds.
func (s *Server) followOperation() operation {
	o := operation{
		method: http.MethodGet, path: "/v1/stream", id: "stream", tag: "live", scope: mds.ScopeRead,
		summary: "Follow what is committed, as it comes",
		description: "Server-sent events, for as long as the client listens: each is named after its kind, and has one or more records, one on each line of its data. " +
			"They come once they are on the store's disk, of a series in the order in which they were committed. " +
			"An event gap says how many records were missed, by a client that reads too slowly or was away (Last-Event-ID): they are not kept here, and are to be read from the store. " +
			"As NDJSON, for one kind, a line is a record, or {\"gap\":…}, or empty as a sign of life. " +
			"What this server takes in is told, but for what comes late; neither is what others write into the same database, nor what is removed.",
		params: []param{
			{name: "format", doc: "The form of the answer, where Accept does not say it", schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"events", "ndjson"}}},
		},
		responses: map[string]*huma.Response{
			"200": {Description: "Records, as they are committed", Content: map[string]*huma.MediaType{
				typeEvents: {Schema: &huma.Schema{Type: huma.TypeString}}, typeNDJSON: {Schema: &huma.Schema{Type: huma.TypeString}},
			}},
			"default": s.problemResponse("It could not be done"),
		},
		limit: s.follows, stream: true, serve: s.follow,
	}
	kinds := &huma.Schema{Type: huma.TypeString}
	for _, k := range s.kinds {
		if k.live == nil {
			continue
		}
		kinds.Enum = append(kinds.Enum, k.name)
		for _, p := range k.live.params {
			if !slices.ContainsFunc(o.params, func(other param) bool { return other.name == p.name }) {
				o.params = append(o.params, p)
			}
		}
	}
	kind := param{name: "kind", doc: "Only this kind; several with commas. Unless it is said, all that have the columns that are picked by", schema: kinds}
	o.params = append([]param{kind.several()}, o.params...)
	return o
}

// follow answers with what is committed from now on.
func (s *Server) follow(c *call) error {
	if s.draining() {
		return ingest.ErrStopped
	}
	picks, err := s.picks(c)
	if err != nil {
		return err
	}
	form, err := followForm(c)
	if err != nil {
		return err
	}
	if form == live.Lines && len(picks) != 1 {
		return badRequest("bad_parameter", "ndjson is of one kind, which its lines do not name: say kind, or ask for "+typeEvents)
	}
	sub := s.live.Subscribe(c.tenant, form, c.r.Header.Get("Last-Event-ID"), picks...)
	defer sub.Close()
	ctx, cancel := until(c.Context(), s.drain)
	defer cancel()
	f := &following{Server: s, call: c, sub: sub, form: form, w: bufio.NewWriterSize(c.w, followBuffer), control: http.NewResponseController(c.w)}
	f.run(ctx)
	return nil
}

// picks are the kinds that a request is about, with what of them.
func (s *Server) picks(c *call) (picks []live.Pick, err error) {
	wanted := c.list("kind")
	for _, k := range s.kinds {
		if k.live == nil || len(wanted) > 0 && !slices.Contains(wanted, k.name) {
			continue
		}
		foreign := k.live.foreign(c)
		if foreign != "" && len(wanted) > 0 {
			return nil, badRequest("bad_parameter", fmt.Sprintf("%s: %s have no such column; leave it out, or them", foreign, k.name))
		}
		if foreign != "" {
			continue
		}
		pick, err := k.live.pick(c)
		if err != nil {
			return nil, err
		}
		picks = append(picks, pick)
	}
	if len(picks) == 0 {
		return nil, badRequest("bad_parameter", "no kind has all the columns that are picked by")
	}
	return picks, nil
}

// foreign is a parameter that picks by a column which the kind does not have.
func (p *livePicks) foreign(c *call) string {
	for name := range c.values {
		if name != "kind" && name != "format" && !slices.ContainsFunc(p.params, func(own param) bool { return own.name == name }) {
			return name
		}
	}
	return ""
}

// followForm is the form that a client takes best.
func followForm(c *call) (live.Form, error) {
	switch c.value("format") {
	case "events":
		return live.Events, nil
	case "ndjson":
		return live.Lines, nil
	}
	accept := strings.Join(c.r.Header.Values("Accept"), ",")
	switch negotiation.SelectQValue(accept, []string{typeEvents, typeNDJSON}) {
	case typeEvents:
		return live.Events, nil
	case typeNDJSON:
		return live.Lines, nil
	}
	if accept == "" || strings.Contains(accept, "*/*") || strings.Contains(accept, "text/*") {
		return live.Events, nil
	}
	return live.Events, &problem{status: http.StatusNotAcceptable, code: "not_acceptable", detail: fmt.Sprintf("Accept is %q: ask for %s or %s", accept, typeEvents, typeNDJSON)}
}

// Sizes of what is written at once.
const (
	followBuffer = 8 << 10   // small events are put together in it
	followWrite  = 256 << 10 // between two deadlines
)

// lastWords is how long a client may take to read what there is when the server stops.
const lastWords = time.Second

// following is a live stream to one client.
type following struct {
	*Server
	*call
	sub     *live.Subscription
	form    live.Form
	w       *bufio.Writer
	control *http.ResponseController
	events  []live.Event
}

// run writes what is committed until ctx ends, the client has gone or reads nothing for too
// long, or its key is no good any more.
func (f *following) run(ctx context.Context) {
	h := f.call.w.Header()
	h.Set("Content-Type", map[live.Form]string{live.Events: typeEvents, live.Lines: typeNDJSON}[f.form])
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	if err := f.beat("retry: 1000\n"); err != nil {
		return
	}
	beat := time.NewTicker(f.cfg.Heartbeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-f.sub.Wake():
			err = f.flush(f.cfg.WriteTimeout)
		case <-beat.C:
			if !f.may() {
				return
			}
			err = f.beat(": ")
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), ingest.ErrStopped) {
				f.sub.Flush()          // what was acknowledged by then is told
				_ = f.flush(lastWords) // who has gone does not read it
			}
			return
		}
		if err != nil {
			return
		}
	}
}

// may reports that the key of the request would do for another one.
func (f *following) may() bool {
	again := *f.call
	err := f.identify(&again, mds.ScopeRead)
	p, refused := errors.AsType[*problem](err)
	return !refused || p.status >= http.StatusInternalServerError
}

// beat gives a sign of life. By its ID a client that comes back is told only what it has
// missed since.
func (f *following) beat(prefix string) error {
	text := "\n"
	if f.form == live.Events {
		if prefix == ": " {
			prefix = ": " + time.Now().UTC().Format(time.RFC3339) + "\n"
		}
		text = prefix + "id: " + f.sub.ID() + "\n\n"
	}
	return f.write(f.cfg.WriteTimeout, func() error {
		_, err := f.w.WriteString(text)
		return err
	})
}

// flush writes what waits.
func (f *following) flush(patience time.Duration) error {
	for more := true; more; {
		f.events, more = f.sub.Take(f.events[:0], followWrite)
		err := f.write(patience, func() error {
			for i := range f.events {
				if err := f.event(&f.events[i]); err != nil {
					return err
				}
			}
			return nil
		})
		clear(f.events)
		if err != nil {
			return err
		}
	}
	return nil
}

// event writes one event.
func (f *following) event(e *live.Event) error {
	data := e.Data
	if e.Gap != nil {
		text, err := json.Marshal(e.Gap)
		if err != nil {
			return err
		}
		data = fmt.Appendf(nil, "event: gap\ndata: %s\n", text)
		if f.form == live.Lines {
			data = fmt.Appendf(nil, "{\"gap\":%s}\n", text)
		}
	}
	if _, err := f.w.Write(data); err != nil || f.form == live.Lines {
		return err
	}
	_, err := f.w.WriteString("id: " + e.ID + "\n\n")
	return err
}

// write has something be written, and flushed, within a time.
func (f *following) write(patience time.Duration, what func() error) error {
	_ = f.control.SetWriteDeadline(time.Now().Add(patience)) // where there are deadlines
	err := what()
	if err == nil {
		err = f.w.Flush()
	}
	if err == nil {
		err = f.control.Flush()
	}
	if err == nil && f.r.ProtoMajor > 1 {
		_ = f.control.SetWriteDeadline(time.Time{}) // there it ends a stream also while nothing is written
	}
	return err
}
