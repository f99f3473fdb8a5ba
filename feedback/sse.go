package feedback

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// HandlerConfig configures a [Handler]. The zero value is usable.
type HandlerConfig struct {
	// Heartbeat is how long after an event it is sent again, with the time of the moment,
	// where there is no newer one; without any event it is a comment. Defaults to 5
	// seconds.
	Heartbeat time.Duration
	// WriteTimeout is how long one event may take to be written. A subscriber for which
	// it takes longer is cut off. Defaults to 5 seconds.
	WriteTimeout time.Duration
	// Logger receives events that cannot be sent. Defaults to discarding them.
	Logger *slog.Logger
}

// Handler is an [http.Handler] that serves the events of a bus as server-sent events, the
// newest at once. A subscriber that asks with ?producer=1 counts as one that submits
// records. One that does not read loses the oldest events, and nobody else's.
//
// A response ends with its request, or with the bus: close that before an
// [http.Server.Shutdown], or by [http.Server.RegisterOnShutdown]. The time limits of the
// server do not end it.
type Handler struct {
	cfg HandlerConfig
	bus *Bus
}

// NewHandler returns a handler.
func NewHandler(bus *Bus, cfg HandlerConfig) (*Handler, error) {
	if err := notNegative(map[string]time.Duration{"Heartbeat": cfg.Heartbeat, "WriteTimeout": cfg.WriteTimeout}); err != nil {
		return nil, fmt.Errorf("feedback handler: %w", err)
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 5 * time.Second
	}
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = 5 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Handler{cfg: cfg, bus: bus}, nil
}

const eventStream = "text/event-stream"

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "events are read: use GET", http.StatusMethodNotAllowed)
		return
	}
	if !accepts(r.Header.Values("Accept")) {
		http.Error(w, "events come as "+eventStream+": accept it", http.StatusNotAcceptable)
		return
	}
	producer, err := strconv.ParseBool(r.URL.Query().Get("producer"))
	if err != nil && r.URL.Query().Has("producer") {
		http.Error(w, "producer is 1 or 0", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", eventStream)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("X-Accel-Buffering", "no")
	s := &stream{Handler: h, w: w, control: http.NewResponseController(w)}
	if err := s.write(""); err != nil { // the headers
		if errors.Is(err, http.ErrNotSupported) {
			http.Error(w, "this server cannot stream: what wraps the response must have Flush or Unwrap", http.StatusInternalServerError)
		}
		return
	}
	s.serve(r, producer)
}

// accepts reports whether Accept headers allow an event stream.
func accepts(headers []string) bool {
	if len(headers) == 0 {
		return true
	}
	for part := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil || media != eventStream && media != "text/*" && media != "*/*" {
			continue
		}
		if q, err := strconv.ParseFloat(params["q"], 64); err == nil && q == 0 {
			continue
		}
		return true
	}
	return false
}

// stream is the response to a subscriber.
type stream struct {
	*Handler
	w       http.ResponseWriter
	control *http.ResponseController
	id      int
}

// serve sends events until the request or the bus ends, or a write fails.
func (s *stream) serve(r *http.Request, producer bool) {
	events := s.bus.Subscribe(Options{Transport: "sse", Producer: producer})
	defer events.Close()
	beat := time.NewTimer(s.cfg.Heartbeat)
	defer beat.Stop()
	var last, told Event
	var sent time.Time
	for {
		var err error
		select {
		case e, ok := <-events.C:
			if !ok {
				return
			}
			last = e
			if e.resembles(&told) && time.Since(sent) < resendAfter {
				continue
			}
			told, sent = e, time.Now()
			err = s.send(&last)
		case <-beat.C:
			if last.Level == "" {
				err = s.write(": no event yet\n\n")
				break
			}
			last.Stamp(time.Now())
			err = s.send(&last)
		case <-r.Context().Done():
			return
		}
		if err != nil {
			return
		}
		beat.Reset(s.cfg.Heartbeat)
	}
}

// send writes an event.
func (s *stream) send(e *Event) error {
	data, err := json.Marshal(e)
	if err != nil {
		s.cfg.Logger.Error("a feedback event cannot be sent", "coordinator", e.CoordinatorID, "error", err)
		return nil // the next one may be
	}
	s.id++
	return s.write(fmt.Sprintf("id: %d\nevent: feedback\ndata: %s\n\n", s.id, data))
}

// write writes and flushes within the time that a write may take.
func (s *stream) write(text string) error {
	err := s.control.SetWriteDeadline(time.Now().Add(s.cfg.WriteTimeout))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if text != "" {
		if _, err := s.w.Write([]byte(text)); err != nil {
			return err
		}
	}
	if err := s.control.Flush(); err != nil {
		return err
	}
	// Over HTTP/2 a deadline ends the stream when it passes, also while nothing is written.
	if err := s.control.SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
