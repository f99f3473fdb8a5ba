package postgres_test

import (
	"flag"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// contend is how long writers are in each other's way: make contend has a minute of it.
var contend = flag.Duration("contend", time.Second, "how long TestContention lasts")

// TestContention has eight connections write the same keys and new ones of the same
// series, half of them in the opposite order, in each mode and with batches of each size,
// and two delete some of the keys. The server never finds a deadlock, no call fails, and
// at the end each key has the value of one of the writers.
func TestContention(t *testing.T) {
	for _, mode := range []string{postgres.WriteAuto, postgres.WriteMerge, postgres.WriteUnnest} {
		for _, size := range []int{200, 2_000} {
			t.Run(mode+"/"+strconv.Itoa(size), func(t *testing.T) {
				d := migrated(t)
				s, err := store.Open(ctx, d.Service, store.Config{WriteMode: mode})
				if err != nil {
					t.Fatal(err)
				}
				var batches, deletions atomic.Int64
				end := time.Now().Add(*contend / 6)
				var wg sync.WaitGroup
				for w := range 8 {
					wg.Go(func() {
						for round := 0; time.Now().Before(end); round++ {
							batch := make([]mds.Bar, size)
							for i := range batch {
								batch[i] = minute("S"+strconv.Itoa(i%10), round/4*size/40+i/10, float64(w))
							}
							if w%2 == 1 {
								slices.Reverse(batch)
							}
							if _, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), batch); err != nil {
								t.Errorf("writer %d: %v", w, err)
								return
							}
							batches.Add(1)
						}
					})
				}
				for w := range 2 {
					wg.Go(func() {
						for time.Now().Before(end) {
							if _, err := store.Bars(s).Delete(ctx, mds.DefaultTenant(), mds.Selection{Symbols: []string{"S1", "S2", "S3"}[w : w+2]}); err != nil {
								t.Errorf("deletion: %v", err)
								return
							}
							deletions.Add(1)
						}
					})
				}
				wg.Wait()
				for r, err := range store.Bars(s).Query(ctx, mds.DefaultTenant(), mds.Query{}) {
					if err != nil || r.Close < 0 || r.Close > 7 {
						t.Fatal(r, err)
					}
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				gone(t, d)
				t.Logf("%d batches of %d, %d deletions", batches.Load(), size, deletions.Load())
				if got := pgtest.Ask(t, d.Admin, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"); got != "0" {
					t.Errorf("%s deadlocks", got)
				}
			})
		}
	}
}
