package deadletter

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/marketdatastore/mds"
)

func TestMain(m *testing.M) {
	for variable, run := range map[string]func(dir string){appendKilled: appendUntilKilled, fullDisk: fillDisk, readOnly: appendReadOnly} {
		if dir := os.Getenv(variable); dir != "" {
			run(dir)
			return
		}
	}
	goleak.VerifyTestMain(m)
}

var born = time.Date(2026, 11, 26, 8, 42, 0, 123_456_789, time.UTC)

// letter is the n-th of a test's, with a record that is invalid.
func letter(n int) Letter {
	bar := mds.Bar{Vendor: "test", Symbol: fmt.Sprint("S", n), Timeframe: mds.Minute, TS: born, Close: math.NaN()}
	return Letter{
		Kind: "bars", Tenant: mds.DefaultTenant(), Code: "invalid", Reason: "close: is not a number",
		SchemaVersion: 5, Attempts: 1, Submitted: born.Add(time.Duration(n) * time.Second), Died: born.Add(time.Hour), Record: Encode(&bar),
	}
}

func letters(from, to int) []Letter {
	var list []Letter
	for n := from; n < to; n++ {
		list = append(list, letter(n))
	}
	return list
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func openLog(t *testing.T, cfg Config) *Log {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet()
	}
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func add(t *testing.T, l *Log, list []Letter) {
	t.Helper()
	if err := l.Append(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

// read returns the letters of a folder, and what was damaged.
func read(t testing.TB, dir string, filter Filter) (list []Letter, damaged []error) {
	t.Helper()
	for l, err := range (Dir{Path: dir}).Letters(t.Context(), filter) {
		var damage *DamagedError
		switch {
		case errors.As(err, &damage):
			damaged = append(damaged, err)
		case err != nil:
			t.Fatal(err)
		default:
			list = append(list, l)
		}
	}
	return list, damaged
}

// symbols are those of the letters of a folder in which nothing is damaged.
func symbols(t testing.TB, dir string) string {
	t.Helper()
	list, damaged := read(t, dir, Filter{})
	if damaged != nil {
		t.Errorf("damaged: %v", damaged)
	}
	return symbolsOf(list)
}

func symbolsOf(list []Letter) string {
	var names []string
	for i := range list {
		names = append(names, list[i].Texts("symbol")...)
	}
	return strings.Join(names, " ")
}

func ids(list []Letter) (names []string) {
	for i := range list {
		names = append(names, list[i].ID)
	}
	return names
}

func remove(t testing.TB, dir string, list []Letter) int {
	t.Helper()
	n, err := (Dir{Path: dir, Logger: quiet()}).Remove(t.Context(), ids(list))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// files are the names in a folder, but for the lock.
func files(t testing.TB, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != lockName {
			list = append(list, e.Name())
		}
	}
	return list
}

func segmentsOf(t testing.TB, dir string) []segment {
	t.Helper()
	list, err := segmentsIn(dir)
	if err != nil || len(list) == 0 {
		t.Fatalf("%d segments, %v", len(list), err)
	}
	return list
}
