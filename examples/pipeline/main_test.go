package main

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
)

func TestMain(m *testing.M) {
	code := m.Run()
	pgtest.Stop()
	os.Exit(code)
}

// TestDuckDB runs the program, and has all that was submitted stored.
func TestDuckDB(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dsn, svg := "duckdb://"+t.TempDir(), filepath.Join(t.TempDir(), "run.svg")
	opt, err := parse(strings.Fields("--for 2s --throttle 500ms,1s,0.5 --symbols 400 --dsn "+dsn+" --svg "+svg), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(t.Context(), &out, opt); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) < 4 || !strings.HasPrefix(lines[0], "replaying ") {
		t.Errorf("it printed\n%s", &out)
	}
	allStored(t, lines[len(lines)-1], dsn)
	picture, err := os.ReadFile(svg)
	if err != nil || !strings.HasPrefix(string(picture), "<!-- go run ./examples/pipeline -dsn duckdb://") {
		t.Errorf("%.100s, %v", picture, err)
	}
	wellFormed(t, picture)
}

// allStored checks the last line printed, and the store.
func allStored(t *testing.T, ledger, dsn string) {
	t.Helper()
	var accepted, written int64
	if n, err := fmt.Sscanf(ledger, "%d accepted = %d written + 0 unchanged + 0 superseded + 0 dead-lettered + 0 dropped + 0 pending", &accepted, &written); n != 2 || err != nil || accepted != written || accepted == 0 {
		t.Errorf("the ledger is %q: %v", ledger, err)
	}
	st, err := store.Open(context.Background(), dsn, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if n, err := store.Bars(st).Count(context.Background(), mds.DefaultTenant(), mds.Selection{}); n != accepted || err != nil {
		t.Errorf("%d bars are stored, %d were accepted: %v", n, accepted, err)
	}
}

func wellFormed(t *testing.T, picture []byte) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(string(picture))); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"--speed 0 --symbols 0":   "--speed is 0: it must be over 0\n--symbols is 0: it must be from 1 to 1,000,000",
		"--timeframe 1h":          "--timeframe is 1h: it must be 1s or 1m",
		"--for -1s more":          "more: there are flags only\n--for is -1s: it must be over 0",
		"--throttle 1s,2s":        `invalid value "1s,2s" for flag -throttle: "1s,2s" is not FROM,TO,SHARE, such as 10s,20s,0.2`,
		"--throttle 2s,1s,0.5":    `invalid value "2s,1s,0.5" for flag -throttle: "2s,1s,0.5": FROM must be over 0 and before TO, and SHARE over 0 and at most 1`,
		"--throttle 1s,2s,NaN":    `invalid value "1s,2s,NaN" for flag -throttle: "1s,2s,NaN": FROM must be over 0 and before TO, and SHARE over 0 and at most 1`,
		"--throttle 1s,2s,little": `invalid value "1s,2s,little" for flag -throttle: strconv.ParseFloat: parsing "little": invalid syntax`,
	} {
		if _, err := parse(strings.Fields(args), io.Discard); err == nil || err.Error() != want {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// TestCommand: what stands in the picture has no password, and no two hyphens.
func TestCommand(t *testing.T) {
	opt, err := parse(strings.Fields("--for 2s --svg a--b.svg --dsn postgres://mds:secret@host/bars"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	picture := chart([]sample{{at: time.Second, submitted: 10}}, opt)
	if want := "<!-- go run ./examples/pipeline -dsn postgres://mds:xxxxx@host/bars -for 2s -svg a- -b.svg -->\n"; !strings.HasPrefix(string(picture), want) {
		t.Errorf("%.150s", picture)
	}
	wellFormed(t, picture)
}
