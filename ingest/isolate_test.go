package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

// TestIsolate has records of which some are invalid, some refused, by name or not, and a
// store that stops answering after some writes: what is done is a prefix, in which each
// record is written once or refused, and nothing after it is. A server stores the others of a
// batch, and names all that its store refuses: of these none is written again.
func TestIsolate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const (
			good = iota
			refusedUnnamed
			refusedNamed
			invalidOne
		)
		kinds := rapid.SliceOfN(rapid.SampledFrom([]int{good, good, good, refusedUnnamed, refusedNamed, invalidOne}), 0, 60).Draw(t, "kinds")
		names := rapid.Bool().Draw(t, "names all")
		left := rapid.IntRange(0, 200).Draw(t, "writes before it is down")
		records := make([]mds.Bar, len(kinds))
		for i, kind := range kinds {
			if records[i] = bar("s", i, float64(kind)); kind == invalidOne {
				records[i] = invalid("s", i)
			}
		}
		var written []int
		i, err := ingest.Isolate(context.Background(), records, func(_ context.Context, part []mds.Bar) (mds.Receipt, error) {
			if left == 0 {
				return mds.Receipt{}, down{}
			}
			left--
			for i := range part {
				if err := part[i].Validate(); err != nil {
					return mds.Receipt{}, &mds.RecordError{Index: i, Err: err}
				}
			}
			if names {
				var named []mds.RefusedRecord
				for i := range part {
					if c := part[i].Close; c == refusedNamed || c == refusedUnnamed {
						named = append(named, mds.RefusedRecord{Index: i, Err: errRefused, Kept: c == refusedNamed})
					} else {
						written = append(written, int(part[i].TS.Unix()-1_700_000_000)/60)
					}
				}
				if len(named) > 0 {
					return mds.Receipt{}, &mds.RefusedError{Records: named}
				}
				return mds.Receipt{Written: int64(len(part))}, nil
			}
			for i := range part {
				switch part[i].Close {
				case refusedNamed:
					return mds.Receipt{}, &mds.RecordError{Index: i, Err: errRefused}
				case refusedUnnamed:
					return mds.Receipt{}, errRefused
				}
			}
			for i := range part {
				written = append(written, int(part[i].TS.Unix()-1_700_000_000)/60)
			}
			return mds.Receipt{Written: int64(len(part))}, nil
		})
		if (err != nil) != (i.Done < len(records)) || err != nil && !errors.Is(err, down{}) {
			t.Fatalf("%d of %d, %v", i.Done, len(records), err)
		}
		var wantWritten, wantRefused, refused []int
		for n, kind := range kinds[:i.Done] {
			if kind == good {
				wantWritten = append(wantWritten, n)
			} else {
				wantRefused = append(wantRefused, n)
			}
		}
		for _, r := range i.Refused {
			refused = append(refused, r.Index)
			if r.Kept != (names && kinds[r.Index] == refusedNamed) {
				t.Fatalf("%+v", r)
			}
		}
		if !slices.Equal(written, wantWritten) || !slices.Equal(refused, wantRefused) || i.Receipt.Written != int64(len(written)) {
			t.Fatalf("of %v, done %d: %v were written and %v refused, %+v", kinds, i.Done, written, refused, i.Receipt)
		}
	})
}

// TestIsolateFindsInvalidAtOnce has many invalid records found by looking at each, not by
// a write for each.
func TestIsolateFindsInvalidAtOnce(t *testing.T) {
	for _, every := range []int{1, 2} {
		t.Run(fmt.Sprint("every ", every), func(t *testing.T) {
			records := bars("s", 10_000)
			for i := 0; i < len(records); i += every {
				records[i] = invalid("s", i)
			}
			w := newWorld()
			i, err := ingest.Isolate(t.Context(), records, func(ctx context.Context, part []mds.Bar) (mds.Receipt, error) {
				return w.WriteBatch(ctx, mds.DefaultTenant(), part)
			})
			if err != nil || len(i.Refused) != 10_000/every || w.calls > 2 {
				t.Errorf("%d refused after %d writes, %v", len(i.Refused), w.calls, err)
			}
		})
	}
}

// TestIsolateSendsFewRows has many rows refused by name cost no more than without.
func TestIsolateSendsFewRows(t *testing.T) {
	records := bars("s", 20_000)
	for i := 0; i < len(records); i += 10 {
		records[i].Close = -1
	}
	sent := 0
	i, err := ingest.Isolate(t.Context(), records, func(_ context.Context, part []mds.Bar) (mds.Receipt, error) {
		sent += len(part)
		for n := range part {
			if part[n].Close == -1 {
				return mds.Receipt{}, &mds.RecordError{Index: n, Err: errRefused}
			}
		}
		return mds.Receipt{Written: int64(len(part))}, nil
	})
	if err != nil || len(i.Refused) != 2000 || sent > 20_000*16 {
		t.Errorf("%d refused, %d rows sent, %v", len(i.Refused), sent, err)
	}
}
