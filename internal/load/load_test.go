package load_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/internal/load"
)

// memory is a writer whose n-th batch fails.
type memory struct {
	failAt  int
	batches [][]mds.Bar
}

var errFull = errors.New("full")

func (m *memory) Write(_ context.Context, bars []mds.Bar) (mds.Receipt, error) {
	if len(m.batches)+1 == m.failAt {
		return mds.Receipt{}, errFull
	}
	m.batches = append(m.batches, append([]mds.Bar(nil), bars...))
	return mds.Receipt{Written: int64(len(bars))}, nil
}

func csvFile(t *testing.T, name string, rows ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("ts,close\n"+strings.Join(rows, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func rows(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("2020-11-27T14:30:%02dZ,%d", i, i)
	}
	return out
}

// TestLargeRecordsMakeSmallBatches: a batch is bounded in bytes, too.
func TestLargeRecordsMakeSmallBatches(t *testing.T) {
	summary := strings.Repeat("x", 200<<10)
	var text strings.Builder
	for i := range 400 { // 80 MB
		fmt.Fprintf(&text, `{"id":"%d","published_at":"2024-01-02","title":"t","summary":"%s"}`+"\n", i, summary)
	}
	var batches []int
	result, err := load.Run(context.Background(), load.Config[mds.News]{
		Files: []string{"-"}, Stdin: strings.NewReader(text.String()), Rejects: load.NewRejects(filepath.Join(t.TempDir(), "rejects")),
		Writer: writerFunc[mds.News](func(records []mds.News) mds.Receipt {
			batches = append(batches, len(records))
			return mds.Receipt{Written: int64(len(records))}
		}),
	})
	if err != nil || result.Ledger.Written != 400 || len(batches) < 3 || slices.Max(batches) > 200 {
		t.Errorf("%+v in batches of %v, %v", result.Ledger, batches, err)
	}
}

// writerFunc is a Writer that cannot fail.
type writerFunc[R any] func([]R) mds.Receipt

func (f writerFunc[R]) Write(_ context.Context, records []R) (mds.Receipt, error) {
	return f(records), nil
}

func run(ctx context.Context, t *testing.T, w *memory, change func(*load.Config[mds.Bar]), files ...string) (load.Result, *load.Rejects, error) {
	t.Helper()
	rejects := load.NewRejects(filepath.Join(t.TempDir(), "rejects"))
	cfg := load.Config[mds.Bar]{
		Files:          files,
		Options:        codec.Options{Fixed: map[string]string{"timeframe": "1s"}},
		SymbolFromFile: true,
		Rejects:        rejects,
		Writer:         w,
		BatchSize:      4,
	}
	if change != nil {
		change(&cfg)
	}
	result, err := load.Run(ctx, cfg)
	l := result.Ledger
	if l.Read != l.Rejected+l.Accepted() || l.Accepted() != l.Written+l.Unchanged+l.Superseded+l.Unwritten {
		t.Errorf("the ledger does not balance: %+v", l)
	}
	return result, rejects, errors.Join(err, rejects.Close())
}

func sizes(w *memory) (out []int) {
	for _, b := range w.batches {
		out = append(out, len(b))
	}
	return out
}

func TestBatchesGoOverFiles(t *testing.T) {
	w := &memory{}
	result, rejects, err := run(context.Background(), t, w, nil, csvFile(t, "A.csv", rows(5)...), csvFile(t, "B.csv.txt", rows(5)...))
	if err != nil || fmt.Sprint(sizes(w)) != "[4 4 2]" || result.Batches != 3 || result.Ledger.Read != 10 || rejects.Path() != "" {
		t.Errorf("%+v, batches %v, %v", result, sizes(w), err)
	}
	if w.batches[0][0].Symbol != "A" || w.batches[2][1].Symbol != "B" {
		t.Errorf("symbols %s and %s", w.batches[0][0].Symbol, w.batches[2][1].Symbol)
	}
}

func TestAFailedWriteNamesWhatIsUnwritten(t *testing.T) {
	w := &memory{failAt: 2}
	result, _, err := run(context.Background(), t, w, nil, csvFile(t, "A.csv", rows(10)...))
	// What is read while the second batch fails is up to who is faster.
	l := result.Ledger
	if !errors.Is(err, errFull) || l.Written != 4 || l.Read < 8 || l.Read > 10 || l.Unwritten != l.Read-4 || len(w.batches) != 1 {
		t.Errorf("%+v, %v", result.Ledger, err)
	}
}

func TestAWrongFileIsKnownBeforeTheFirstIsRead(t *testing.T) {
	w := &memory{}
	result, _, err := run(context.Background(), t, w, nil, csvFile(t, "A.csv", rows(10)...), "/nowhere.csv")
	var file *load.FileError
	if !errors.As(err, &file) || file.File != "/nowhere.csv" || result.Ledger.Read != 0 || len(w.batches) > 0 {
		t.Errorf("%+v, %v", result.Ledger, err)
	}
}

// countdown is a context that is cancelled after its state was asked for a
// number of times, which a load does before each row.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPipes are read once, from their beginning.
func TestPipes(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "A")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func() {
		w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
		if err == nil {
			_, err = fmt.Fprint(w, "ts,close\n"+strings.Join(rows(50), "\n")+"\n")
			err = errors.Join(err, w.Close())
		}
		wrote <- err
	}()
	result, _, err := run(context.Background(), t, &memory{}, nil, pipe)
	if err := errors.Join(err, <-wrote); err != nil || result.Ledger.Written != 50 {
		t.Errorf("%+v, %v", result.Ledger, err)
	}
}

// TestAFailedLastWriteIsTold, whatever ended the reading.
func TestAFailedLastWriteIsTold(t *testing.T) {
	w := &memory{failAt: 2}
	result, _, err := run(&countdown{context.Background(), 6}, t, w, nil, csvFile(t, "A.csv", rows(10)...))
	if !errors.Is(err, errFull) || errors.Is(err, load.ErrInterrupted) || result.Ledger.Written != 4 || result.Ledger.Unwritten != 2 {
		t.Errorf("%+v, %v", result.Ledger, err)
	}
}

func TestCancelWritesWhatWasRead(t *testing.T) {
	w := &memory{}
	result, _, err := run(&countdown{context.Background(), 6}, t, w, nil, csvFile(t, "A.csv", rows(10)...))
	if !errors.Is(err, load.ErrInterrupted) || result.Ledger.Read != 6 || fmt.Sprint(sizes(w)) != "[4 2]" {
		t.Errorf("%+v, batches %v, %v", result.Ledger, sizes(w), err)
	}
}

// TestCancelEndsAReadThatBlocks has standard input stay open and silent.
func TestCancelEndsAReadThatBlocks(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := fmt.Fprint(w, "ts,close\n"+strings.Join(rows(6), "\n")+"\n"); err != nil {
		t.Fatal(err)
	}
	go cancel()
	result, _, err := run(ctx, t, &memory{}, func(c *load.Config[mds.Bar]) {
		c.Stdin, c.SymbolFromFile = r, false
		c.Options.Fixed["symbol"] = "A"
	}, "-")
	if !errors.Is(err, load.ErrInterrupted) || result.Ledger.Written != result.Ledger.Read {
		t.Errorf("%+v, %v", result.Ledger, err)
	}
}

func TestSymbolOf(t *testing.T) {
	for file, want := range map[string]string{
		"AAPL.csv": "AAPL", "/data/brk.b.csv.gz": "BRK.B", "x/1398.HK.CSV": "1398.HK", "EURUSD=X.txt.zst": "EURUSD=X", "spy": "SPY",
	} {
		if got := load.SymbolOf(file); got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
}

// TestFailedWriteEndsReading has a batch fail while standard input, or a named pipe,
// brings nothing.
func TestFailedWriteEndsReading(t *testing.T) {
	named := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(named, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"-", named} {
		stdin, input, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		if name == named {
			_ = input.Close()
			// Open for reading and writing, it waits for nobody.
			if input, err = os.OpenFile(named, os.O_RDWR, 0); err != nil {
				t.Fatal(err)
			}
		}
		defer input.Close()
		if _, err := fmt.Fprintln(input, "symbol,ts,close\nA,"+strings.Join(rows(5), "\nA,")); err != nil {
			t.Fatal(err)
		}
		result, _, err := run(context.Background(), t, &memory{failAt: 1}, func(cfg *load.Config[mds.Bar]) {
			cfg.Stdin, cfg.SymbolFromFile = stdin, false
		}, name)
		if !errors.Is(err, errFull) || result.Ledger.Unwritten < 4 {
			t.Errorf("%s: %+v, %v", name, result, err)
		}
	}
}
