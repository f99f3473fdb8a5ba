package feedback

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"
)

// ReceiverConfig configures a [Receiver]. The zero value takes in unsigned posts.
type ReceiverConfig struct {
	// Secret is that of the webhook. Without one posts are not checked for who sent them.
	Secret []byte
	// Tolerance is how far the timestamp of a post may be from the receiver's time.
	// Defaults to 5 minutes. Within it a post that was overheard can be sent again.
	Tolerance time.Duration
	// Logger receives panics of the function. Defaults to discarding them.
	Logger *slog.Logger
}

// Receiver is an [http.Handler] that takes in what a [Webhook] posts. It answers 204 when
// the function has been called, and otherwise says in one sentence why it has not: 405 for
// another method than POST, 415 for other than JSON, 413 for more than 64 KiB, 401 for a
// wrong signature or timestamp, 400 for what is no event. After a panic it is 500.
type Receiver struct {
	cfg    ReceiverConfig
	handle func(Event)
}

// NewReceiver returns a receiver that calls a function with each event. Posts that arrive
// at the same time call it at the same time.
func NewReceiver(cfg ReceiverConfig, handle func(Event)) (*Receiver, error) {
	if handle == nil {
		return nil, errors.New("feedback receiver: there is no function to hand events to")
	}
	if err := notNegative(map[string]time.Duration{"Tolerance": cfg.Tolerance}); err != nil {
		return nil, fmt.Errorf("feedback receiver: %w", err)
	}
	if cfg.Tolerance == 0 {
		cfg.Tolerance = 5 * time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Receiver{cfg: cfg, handle: handle}, nil
}

func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "events are posted: use POST", http.StatusMethodNotAllowed)
		return
	}
	if media, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || media != "application/json" {
		http.Error(w, "events are JSON: send Content-Type: application/json", http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxMessage))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		http.Error(w, "an event has at most 64 KiB", http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		http.Error(w, "the body ended early: send it again", http.StatusBadRequest)
		return
	}
	if len(r.cfg.Secret) > 0 {
		if err := verify(req.Header, r.cfg.Secret, time.Now(), r.cfg.Tolerance, body); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
	}
	e, err := Parse(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	returned := false
	call(func(e Event) { r.handle(e); returned = true }, e, r.cfg.Logger)
	if !returned {
		http.Error(w, "the receiver failed on the event: see its log", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
