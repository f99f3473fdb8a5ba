package duckdb

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

// TestFewTextsAmongLargeOnes writes batches that are small beside the memory limit into a
// table of texts that is larger: what they are compared with finds room.
func TestFewTextsAmongLargeOnes(t *testing.T) {
	ctx := context.Background()
	table := NewTable[mds.News](open(t, t.TempDir(), Config{MemoryLimit: "96MB"}))
	summary := strings.Repeat("market data ", 100_000/12)
	for n := 0; n < 2400; n += 80 {
		batch := make([]mds.News, 80)
		for i := range batch {
			id := (n + i) % 1000
			batch[i] = mds.News{Vendor: "v", ID: strconv.Itoa(id), PublishedAt: time.Unix(1_700_000_000+int64(id), 0), Title: "t", Summary: summary}
		}
		if _, err := table.WriteBatch(ctx, mds.DefaultTenant(), batch); err != nil {
			t.Fatalf("after %d items: %v", n, err)
		}
	}
	if n, err := table.Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || n != 1000 {
		t.Errorf("%d items, %v", n, err)
	}
}
