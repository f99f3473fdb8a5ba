package dlq_test

import (
	"context"
	"fmt"
	"log"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/dlq"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/store"
)

// A bar that no store takes is kept in a folder, where mds dlq finds it.
func ExampleFor() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "mds-example-")
	check(err)
	defer os.RemoveAll(dir)
	st, err := store.Open(ctx, "duckdb://"+dir, store.Config{})
	check(err)
	version, err := st.SchemaVersion(ctx, mds.DefaultTenant())
	check(err)
	folder, err := dlq.Open(dlq.Config{Dir: filepath.Join(dir, "dead-letters")})
	check(err)
	c, err := ingest.New(ctx, store.Bars(st), ingest.Config[mds.Bar]{Lanes: 1, DeadLetters: dlq.For[mds.Bar](folder, version)})
	check(err)

	bad := mds.Bar{Vendor: "ibkr", Symbol: "AAPL", Timeframe: mds.Minute, TS: time.Date(2024, 1, 2, 14, 30, 0, 0, time.UTC), Close: math.NaN()}
	_, err = c.For(mds.DefaultTenant()).Submit(ctx, bad)
	check(err)
	check(c.Stop(ctx))
	fmt.Println(c.Stats().DeadLettered, "dead letter: mds dlq show --dlq-dir …/dead-letters has the rest")
	check(folder.Close())
	check(st.Close())
	// Output: 1 dead letter: mds dlq show --dlq-dir …/dead-letters has the rest
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
