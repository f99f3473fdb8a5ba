package dlq_test

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/dlq"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/deadletter"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// strict is a store that refuses what does not validate.
type strict struct{}

func (strict) WriteBatch(_ context.Context, _ mds.Tenant, bars []mds.Bar) (mds.Receipt, error) {
	for i := range bars {
		if err := bars[i].Validate(); err != nil {
			return mds.Receipt{}, &mds.RecordError{Index: i, Err: err}
		}
	}
	return mds.Receipt{Written: int64(len(bars))}, nil
}

// TestFolder has a coordinator's dead letters on the disk, with all that is known of them.
func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "letters")
	folder, err := dlq.Open(dlq.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ingest.New(t.Context(), strict{}, ingest.Config[mds.Bar]{DeadLetters: dlq.For[mds.Bar](folder, 5)})
	if err != nil {
		t.Fatal(err)
	}
	tenant, err := mds.NewTenant("acme")
	if err != nil {
		t.Fatal(err)
	}
	good := mds.Bar{Vendor: "v", Symbol: "A", Timeframe: mds.Minute, TS: time.Date(2024, 1, 2, 15, 0, 0, 0, time.UTC), Close: 1}
	bad := good
	bad.Close = math.NaN()
	before := time.Now()
	receipt, err := c.For(tenant).Submit(t.Context(), good, bad)
	if err != nil {
		t.Fatal(err)
	}
	if o, err := receipt.Wait(t.Context()); o != (ingest.Outcome{Committed: 1, DeadLettered: 1}) || !errors.Is(err, ingest.ErrDeadLettered) {
		t.Errorf("%+v, %v", o, err)
	}
	if err := errors.Join(c.Stop(t.Context()), folder.Close()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for l, err := range (deadletter.Dir{Path: dir}).Letters(t.Context(), deadletter.Filter{}) {
		n++
		record, decodeErr := deadletter.Decode[mds.Bar](l.Record)
		if err := errors.Join(err, decodeErr); err != nil {
			t.Fatal(err)
		}
		if l.Kind != "bars" || l.Tenant != tenant || l.Code != ingest.CodeInvalid || !strings.HasPrefix(l.Reason, "close: NaN") || l.SchemaVersion != 5 ||
			l.Attempts != 1 || l.Submitted.Before(before.Truncate(time.Microsecond)) || l.Died.Before(l.Submitted) || !math.IsNaN(record.Close) || record.Symbol != "A" {
			t.Errorf("%+v", l)
		}
	}
	if n != 1 {
		t.Errorf("%d letters", n)
	}
}

func TestOpenNeedsAFolder(t *testing.T) {
	if _, err := dlq.Open(dlq.Config{}); err == nil || err.Error() != "dead letters: no folder is named" {
		t.Error(err)
	}
}
