package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

// throttle is a time, since the program began, in which the store takes only a share of
// what it took before.
type throttle struct {
	from, to time.Duration
	share    float64
}

// String and Set are those of a flag: "10s,20s,0.2".
func (t *throttle) String() string {
	if t == nil || t.to == 0 {
		return ""
	}
	return fmt.Sprintf("%v,%v,%v", t.from, t.to, t.share)
}

// Set reads the flag.
func (t *throttle) Set(text string) error {
	parts := strings.Split(text, ",")
	if len(parts) != 3 {
		return fmt.Errorf("%q is not FROM,TO,SHARE, such as 10s,20s,0.2", text)
	}
	var errs [3]error
	t.from, errs[0] = time.ParseDuration(parts[0])
	t.to, errs[1] = time.ParseDuration(parts[1])
	t.share, errs[2] = strconv.ParseFloat(parts[2], 64)
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	if !(0 < t.from && t.from < t.to && 0 < t.share && t.share <= 1) {
		return fmt.Errorf("%q: FROM must be over 0 and before TO, and SHARE over 0 and at most 1", text)
	}
	return nil
}

// throttled is a writer that is made slow: from throttle.from to throttle.to it takes that
// share of the records a second that it took until then, of all writes together. A write
// returns later for it; what it does is the same.
type throttled struct {
	ingest.Writer[mds.Bar]
	throttle
	began time.Time

	mu   sync.Mutex
	took int       // records, before
	free time.Time // when the next write may begin to count
}

// WriteBatch implements [ingest.Writer].
func (w *throttled) WriteBatch(ctx context.Context, tenant mds.Tenant, bars []mds.Bar) (mds.Receipt, error) {
	receipt, err := w.Writer.WriteBatch(ctx, tenant, bars)
	_ = wait(ctx, w.pause(time.Now(), len(bars))) // what is written is written
	return receipt, err
}

// pause is for how long a write of n records that has ended must go on.
func (w *throttled) pause(now time.Time, n int) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	since := now.Sub(w.began)
	if since < w.from {
		w.took += n
		return 0
	}
	if since >= w.to || w.took == 0 {
		return 0
	}
	perSecond := w.share * float64(w.took) / w.from.Seconds()
	if w.free.Before(now) {
		w.free = now
	}
	w.free = w.free.Add(time.Duration(math.Round(float64(n) / perSecond * float64(time.Second))))
	if end := w.began.Add(w.to); w.free.After(end) {
		w.free = end
	}
	return w.free.Sub(now)
}
